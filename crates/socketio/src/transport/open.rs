//! Opens a connection: the handshake, then the upgrade if the server offers it and it works.

use std::time::Duration;

use tracing::debug;

use super::http::Endpoint;
use super::polling::Polling;
use super::websocket::WebSocket;
use super::{Io, Opened, Transports, within};
use crate::error::Error;

/// The upgrade gets one third of the time limit, so that long polling still has a chance afterwards.
const UPGRADE_SHARE: u32 = 3;

/// Opens a connection; `limit` is the time for each of its requests.
pub(crate) async fn open(endpoint: Endpoint, transports: Transports, limit: Duration) -> Result<Opened, Error> {
    if transports == Transports::WebSocketOnly {
        let mut socket = WebSocket::open(&endpoint, None, limit).await?;
        let handshake = socket.handshake().await?;
        return Ok(Opened { handshake, io: Io::WebSocket(Box::new(socket)), early: Vec::new() });
    }
    let (polling, handshake, early) = Polling::open(endpoint.clone(), limit).await?;
    if transports == Transports::PollingOnly || !handshake.websocket {
        return Ok(Opened { handshake, io: Io::Polling(Box::new(polling)), early });
    }

    // No poll may wait during the upgrade, because the server would have to end it first. None has been started yet.
    let upgrade_limit = (limit / UPGRADE_SHARE).min(handshake.ping_timeout);
    let opening = WebSocket::open(&polling.endpoint, Some(&polling.sid), upgrade_limit);
    let mut socket = match within(upgrade_limit, "opening a websocket", opening).await {
        Ok(socket) => socket,
        Err(error) => {
            debug!(%error, "No websocket to this server, continuing with long polling");
            return Ok(Opened { handshake, io: Io::Polling(Box::new(polling)), early });
        }
    };
    match within(upgrade_limit, "the upgrade to the websocket", socket.take_over()).await {
        Ok(()) => Ok(Opened { handshake, io: Io::WebSocket(Box::new(socket)), early }),
        Err(error) => {
            // The server may be half-way through the upgrade and withhold all packets: start again, without the upgrade.
            debug!(%error, "The websocket opened but does not work, reconnecting with long polling");
            drop(socket);
            let _ = polling.close(upgrade_limit).await;
            let (polling, handshake, early) = Polling::open(endpoint, limit).await?;
            Ok(Opened { handshake, io: Io::Polling(Box::new(polling)), early })
        }
    }
}
