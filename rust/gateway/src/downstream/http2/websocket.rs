//! What an extended CONNECT is answered with (RFC 8441, 5).

use crate::pipeline::OutBody;
use crate::respond;
use http::{Response, StatusCode};
use nylon_core::RequestId;

/// The response for the client, from that to the GET which its CONNECT stands for.
///
/// A success opens the WebSocket here, so one that does not is none: whoever answers a page instead does not speak it.
pub(super) fn answer(mut response: Response<OutBody>, id: RequestId) -> Response<OutBody> {
    match response.status() {
        StatusCode::SWITCHING_PROTOCOLS => *response.status_mut() = StatusCode::OK,
        status if status.is_success() => return respond::NO_WEBSOCKET.response(id),
        _ => {}
    }
    response
}
