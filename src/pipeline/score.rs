//! Stage 3: how hard the prompt is, where a ladder needs to know.

use super::admit::Admitted;
use super::call::Call;
use super::timeline::Stage;
use crate::complexity::{ScoreSource, Scored};
use crate::gateway::Gateway;
use crate::telemetry::events::ScoreFellBack;

/// `None` where the route has one rung and nothing is to be decided.
pub(super) async fn score(gateway: &Gateway, admitted: &Admitted, call: &Call) -> Option<Scored> {
    let route = admitted.route(call).ok()?;
    if !route.has_ladder() {
        return None;
    }
    let text = call.request.last_user().map_or("", |message| message.text.as_str());
    let scored = gateway.complexity.score(text).await;
    call.mark(Stage::Scored);
    match scored.source {
        ScoreSource::Classifier => {}
        ScoreSource::Heuristic(_) => ScoreFellBack { why: scored.source.as_str() }.emit(),
    }
    Some(scored)
}
