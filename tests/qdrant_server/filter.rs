//! Which points a filter lets through.

use std::collections::HashMap;

use qdrant_client::qdrant::condition::ConditionOneOf;
use qdrant_client::qdrant::r#match::MatchValue;
use qdrant_client::qdrant::value::Kind;
use qdrant_client::qdrant::{Condition, FieldCondition, Filter, Range, Value};
use tonic::Status;

type Payload = HashMap<String, Value>;

pub(crate) fn passes(filter: &Filter, payload: &Payload) -> Result<bool, Status> {
    for condition in &filter.must {
        if !holds(condition, payload)? {
            return Ok(false);
        }
    }
    for condition in &filter.must_not {
        if holds(condition, payload)? {
            return Ok(false);
        }
    }
    let mut any = filter.should.is_empty();
    for condition in &filter.should {
        any |= holds(condition, payload)?;
    }
    Ok(any)
}

fn holds(condition: &Condition, payload: &Payload) -> Result<bool, Status> {
    if let Some(ConditionOneOf::Field(field)) = &condition.condition_one_of {
        return field_holds(field, payload);
    }
    if let Some(ConditionOneOf::Filter(filter)) = &condition.condition_one_of {
        return passes(filter, payload);
    }
    Err(Status::unimplemented(format!("{condition:?}")))
}

fn field_holds(field: &FieldCondition, payload: &Payload) -> Result<bool, Status> {
    let kind = payload.get(&field.key).and_then(|value| value.kind.as_ref());
    if let Some(range) = &field.range {
        return Ok(number(kind).is_some_and(|number| in_range(range, number)));
    }
    let wanted = field.r#match.as_ref().and_then(|wanted| wanted.match_value.as_ref());
    if let Some(MatchValue::Keyword(wanted)) = wanted {
        return Ok(matches!(kind, Some(Kind::StringValue(text)) if text == wanted));
    }
    Err(Status::unimplemented(format!("{field:?}")))
}

fn number(kind: Option<&Kind>) -> Option<f64> {
    if let Some(Kind::IntegerValue(whole)) = kind {
        return Some(*whole as f64);
    }
    if let Some(Kind::DoubleValue(number)) = kind {
        return Some(*number);
    }
    None
}

fn in_range(range: &Range, number: f64) -> bool {
    range.lt.is_none_or(|bound| number < bound)
        && range.gt.is_none_or(|bound| number > bound)
        && range.lte.is_none_or(|bound| number <= bound)
        && range.gte.is_none_or(|bound| number >= bound)
}
