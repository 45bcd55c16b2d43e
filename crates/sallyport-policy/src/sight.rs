//! Whether a policy can look at the text of an operation (`context.operation.detail`), for each kind of
//! operation: an answer that does not depend on a text holds for every text.
//!
//! Read from the policy's JSON form once, when its bundle is loaded. Rules for commands commonly stand behind
//! a test of the kind, so those tests are followed: Cedar evaluates conditions from left to right and stops at
//! the first that settles them.
//!
//! INVARIANT: in doubt a policy looks. It is taken not to only if no expression that can be reached for that
//! kind reads the text, or `context` or `context.operation` as a whole.

use cedar_policy::Policy;
use sallyport_core::session::OperationKind;
use serde_json::Value;

/// Kinds of operation whose text somebody looks at.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct TextReaders(u32);

const _: () = assert!(OperationKind::ALL.len() <= 32);

impl TextReaders {
    /// Those for which `policy` may look.
    pub(crate) fn of(policy: &Policy) -> Self {
        let conditions = policy.to_json().ok().and_then(|policy| match policy {
            Value::Object(mut policy) => policy.remove("conditions"),
            _ => None,
        });
        let Some(Value::Array(conditions)) = conditions else {
            return Self(u32::MAX);
        };
        let mut readers = Self::default();
        for kind in OperationKind::ALL {
            if reads_any(&conditions, kind) {
                readers.0 |= bit(kind);
            }
        }
        readers
    }

    /// Those of both.
    pub(crate) const fn or(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// Whether an operation of this kind is looked at.
    pub(crate) fn reads(self, kind: OperationKind) -> bool {
        self.0 & bit(kind) != 0
    }
}

/// The bit of a kind; all of them for one that is not listed.
fn bit(kind: OperationKind) -> u32 {
    let place = OperationKind::ALL.iter().position(|known| *known == kind);
    place
        .and_then(|place| u32::try_from(place).ok())
        .and_then(|place| 1_u32.checked_shl(place))
        .unwrap_or(u32::MAX)
}

/// Whether clauses, evaluated in their order, may look.
fn reads_any(clauses: &[Value], kind: OperationKind) -> bool {
    for clause in clauses {
        let (Some(word), Some(body)) = (clause.get("kind"), clause.get("body")) else {
            return true;
        };
        if reads(body, kind) {
            return true;
        }
        let ends = match word.as_str() {
            Some("when") => Some(false),
            Some("unless") => Some(true),
            _ => return true,
        };
        if settled(body, kind) == ends {
            return false;
        }
    }
    false
}

/// Whether evaluating an expression may look.
fn reads(expression: &Value, kind: OperationKind) -> bool {
    let Some((operator, operands)) = single(expression) else {
        return true;
    };
    match operator {
        "Value" | "Slot" => false,
        "Var" => is_context(expression),
        "&&" => pair(operands).is_none_or(|(left, right)| {
            reads(left, kind) || (settled(left, kind) != Some(false) && reads(right, kind))
        }),
        "||" => pair(operands).is_none_or(|(left, right)| {
            reads(left, kind) || (settled(left, kind) != Some(true) && reads(right, kind))
        }),
        "." => match (operands.get("left"), operands.get("attr")) {
            (Some(left), Some(Value::String(attribute))) if is_context(left) => {
                attribute == "operation"
            }
            (Some(left), Some(Value::String(attribute))) if is_operation(left) => {
                attribute == "detail"
            }
            (Some(left), Some(Value::String(_))) => reads(left, kind),
            _ => true,
        },
        // Whether there is something is not what it is.
        "has" => operands
            .get("left")
            .is_none_or(|left| !is_context(left) && !is_operation(left) && reads(left, kind)),
        "like" => operands.get("left").is_none_or(|left| reads(left, kind)),
        "is" => ["left", "in"]
            .iter()
            .filter_map(|name| operands.get(name))
            .any(|part| reads(part, kind)),
        // All that are below, whatever the operator does with them.
        _ => match operands {
            Value::Array(parts) => parts.iter().any(|part| reads(part, kind)),
            Value::Object(parts) => parts.values().any(|part| reads(part, kind)),
            _ => true,
        },
    }
}

/// What an expression comes to for every operation of this kind, where that is certain without looking at
/// anything but the kind.
fn settled(expression: &Value, kind: OperationKind) -> Option<bool> {
    let (operator, operands) = single(expression)?;
    match operator {
        "==" => compared(operands, kind),
        "!=" => compared(operands, kind).map(|is_equal| !is_equal),
        "!" => settled(operands.get("arg")?, kind).map(|holds| !holds),
        "&&" => {
            let (left, right) = pair(operands)?;
            match settled(left, kind)? {
                false => Some(false),
                true => settled(right, kind),
            }
        }
        "||" => {
            let (left, right) = pair(operands)?;
            match settled(left, kind)? {
                true => Some(true),
                false => settled(right, kind),
            }
        }
        "contains" => {
            let (set, element) = pair(operands)?;
            if !is_kind(element) {
                return None;
            }
            let words = single(set).and_then(|(name, words)| match name {
                "Set" => words.as_array(),
                _ => None,
            })?;
            let kinds = words.iter().map(kind_named).collect::<Option<Vec<_>>>()?;
            Some(kinds.contains(&kind.as_str()))
        }
        _ => None,
    }
}

/// Whether the kind equals the one that is named, in either order.
fn compared(operands: &Value, kind: OperationKind) -> Option<bool> {
    let (left, right) = pair(operands)?;
    let named = match (is_kind(left), is_kind(right)) {
        (true, false) => kind_named(right),
        (false, true) => kind_named(left),
        _ => None,
    };
    named.map(|name| name == kind.as_str())
}

/// The name in `OperationKind::"name"`.
fn kind_named(expression: &Value) -> Option<&str> {
    let entity = expression.get("Value")?.get("__entity")?;
    let name = entity.get("id")?.as_str()?;
    (entity.get("type")?.as_str()? == "OperationKind").then_some(name)
}

fn is_context(expression: &Value) -> bool {
    // A variable that is not known may be anything.
    expression
        .get("Var")
        .is_some_and(|name| !matches!(name.as_str(), Some("principal" | "action" | "resource")))
}

fn is_operation(expression: &Value) -> bool {
    is_attribute(expression, "operation", is_context)
}

fn is_kind(expression: &Value) -> bool {
    is_attribute(expression, "kind", is_operation)
}

fn is_attribute(expression: &Value, name: &str, of: impl Fn(&Value) -> bool) -> bool {
    expression.get(".").is_some_and(|access| {
        access.get("attr").and_then(Value::as_str) == Some(name)
            && access.get("left").is_some_and(of)
    })
}

/// An expression's operator and operands.
fn single(expression: &Value) -> Option<(&str, &Value)> {
    let object = expression.as_object()?;
    let (operator, operands) = object.iter().next()?;
    (object.len() == 1).then_some((operator.as_str(), operands))
}

fn pair(operands: &Value) -> Option<(&Value, &Value)> {
    Some((operands.get("left")?, operands.get("right")?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn readers(conditions: &str) -> TextReaders {
        let policy = format!("permit (principal, action, resource) {conditions};");
        TextReaders::of(&policy.parse().unwrap())
    }

    /// PO-1, PO-2: an answer is taken for another text only where no text was looked at.
    #[test]
    fn given_a_policy_that_may_look_at_a_text_then_it_counts_as_looking() {
        for condition in [
            r#"when { context.operation.detail like "rm *" }"#,
            r#"when { context.operation == {kind: "x"} }"#,
            "when { context == context }",
            "when { [context.operation].contains(context.operation) }",
            r#"when { context["operation"]["detail"] == "x" }"#,
            "when { {a: context}.a.operation.kind == principal }",
            "when { if principal has a then context.operation.verb_rank > 1 else context.operation.detail == \"\" }",
            r#"when { principal.name == "a" || context.operation.detail == "x" }"#,
            r#"unless { context.operation.kind == OperationKind::"exec" } when { context.operation.detail == "x" }"#,
            r#"when { context.operation.kind == OperationKind::"statement" } when { context.operation.detail == "x" }"#,
            r#"when { context.operation.kind != OperationKind::"exec" && ip(context.operation.detail).isLoopback() }"#,
            r#"when { context.operation.kind == principal } when { context.operation.detail == "x" }"#,
            r#"when { context.operation.kind == Verb::"exec" } when { context.operation.detail == "x" }"#,
            r#"when { principal.getTag(context.operation.detail) == "x" }"#,
            r#"when { principal.hasTag(context.operation.detail) }"#,
            r#"when { {a: [context.operation.detail]}.a.isEmpty() }"#,
            r#"when { {attr: context.operation.detail}.attr like "x*" }"#,
        ] {
            assert!(
                readers(condition).reads(OperationKind::Statement),
                "{condition}"
            );
        }
    }

    /// PO-3: rules about commands do not make statements dear, nor do rules about what statements do.
    #[test]
    fn given_a_policy_that_cannot_look_at_a_text_then_it_does_not_count_as_looking() {
        for condition in [
            "",
            "when { context.operation.verb_rank <= 1 }",
            r#"when { context has operation && context.operation.relations.contains("a.*.b") }"#,
            r#"when { context.operation has detail && principal.name like "context*" }"#,
            r#"when { context.network.ip.isInRange(ip("192.0.2.0/24")) && context.time.hour < 8 }"#,
            r#"when { context.operation.kind == OperationKind::"exec" } when { context.operation.detail like "rm *" }"#,
            r#"when { OperationKind::"exec" == context.operation.kind && (context.operation.detail == "a" || true) }"#,
            r#"when { [OperationKind::"exec", OperationKind::"shell"].contains(context.operation.kind) && context.operation.detail == "x" }"#,
            r#"unless { context.operation.kind != OperationKind::"exec" || context.operation.detail == "x" }"#,
            r#"when { !(context.operation.kind == OperationKind::"statement") } when { context.operation.detail == "x" }"#,
            r#"when { principal is Person in Group::"a" && resource.target.getTag("context") == "x" }"#,
        ] {
            assert!(
                !readers(condition).reads(OperationKind::Statement),
                "{condition}"
            );
        }
        let commands = readers(
            r#"when { context.operation.kind == OperationKind::"exec" } when { context.operation.detail like "rm *" }"#,
        );
        assert!(commands.reads(OperationKind::Exec) && !commands.reads(OperationKind::Shell));
    }
}
