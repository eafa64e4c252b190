//! What waits for its turn. A reconciler is large, and thousands of runs may wait for a place: so each does it here, small, and is
//! reconciled when it has its place, or somebody wants something of it.

use sextant_core::hub::Run;
use tokio::sync::watch;

use super::Context;
use super::admission::{Admission, admit};
use super::kept::Databases;
use super::places::Place;
use super::reconciler::Signal;

/// How many bytes of inputs are kept for runs that wait; the others are fetched from the server when their pods ask.
pub const INPUTS: usize = 8 * 1024 * 1024;

/// Waits for a run's place, unless any number may be under way; `None` also when somebody wants something of the run before.
pub async fn turn(
    context: &Context,
    run: &mut Run,
    databases: &Databases,
    signal: &mut watch::Receiver<Signal>,
) -> Option<Place> {
    let places = context.places.as_ref()?;
    if let Some(place) = places.try_take() {
        return Some(place);
    }
    // Who is not let in is told now, not when it would be its turn. Who is, is asked again then: hours may lie in between. So it does
    // no harm if the server does not answer now.
    if let Ok(Admission::Refused(_)) = Box::pin(admit(context, run, databases, None)).await {
        return None;
    }
    let length = run.input.as_ref().map_or(0, |input| input.0.len());
    let kept = u32::try_from(length).ok().and_then(|length| context.inputs.try_acquire_many(length).ok());
    if kept.is_none() {
        run.input = None;
    }
    tokio::select! {
        place = places.take(run.id) => Some(place),
        _ = signal.changed() => None,
    }
}
