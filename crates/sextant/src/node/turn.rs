//! What waits for its turn. A drive is large, and thousands of runs may wait for a place: so each does it here, small, and is
//! driven when it has its place, or somebody wants something of it.

use tokio::sync::watch;
use vantage6::Run;

use super::Context;
use super::admission::admit;
use super::drive::Signal;
use super::places::Place;

/// How many bytes of inputs are kept for runs that wait; the others are fetched from the server when their pods ask.
pub const INPUTS: usize = 8 * 1024 * 1024;

/// With what a run begins to be driven.
#[derive(Debug, Default)]
pub struct Turn {
    /// Its place among the runs under way.
    pub place: Option<Place>,
    /// Whether the policies have let it in already.
    pub admitted: bool,
}

/// Waits for a run's place, unless any number may be under way.
pub async fn turn(context: &Context, run: &mut Run, signal: &mut watch::Receiver<Signal>) -> Turn {
    let Some(places) = &context.places else { return Turn::default() };
    if let Some(place) = places.try_take() {
        return Turn { place: Some(place), admitted: false };
    }
    // Who is not let in is told now, not when it would be its turn.
    if !matches!(Box::pin(admit(context, run, None)).await, Ok(Ok(()))) {
        return Turn::default();
    }
    let length = run.input.as_ref().map_or(0, |input| input.0.len());
    let kept = u32::try_from(length).ok().and_then(|length| context.inputs.try_acquire_many(length).ok());
    if kept.is_none() {
        run.input = None;
    }
    tokio::select! {
        place = places.take(run.id) => Turn { place: Some(place), admitted: true },
        _ = signal.changed() => Turn { place: None, admitted: true },
    }
}
