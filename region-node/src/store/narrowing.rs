//! From a filter to the index look-ups that find every resource that can match it.
//!
//! What comes out is always a superset of what matches; the evaluator decides. Terms that no
//! index serves widen to everything, `and` takes the narrower side, `or` needs both.

use crate::scim::filter::{Filter, Operand, Operator, Step, Target, Test};
use crate::scim::user::EMAILS_VALUE;
use crate::scim::{ResourceId, ResourceKind};

use super::{Narrowing, TextIndex, TextTest};

/// What is indexed of a kind of resources in a tenant.
#[derive(Clone, Copy, Debug)]
pub struct Indexes<'i> {
    /// The kind.
    pub kind: ResourceKind,
    /// Attributes of the tenant's own extensions: URN, a colon, name.
    pub own: &'i [String],
}

impl Narrowing {
    /// The narrowest look-up for a filter over resources of a kind.
    #[must_use]
    pub fn of(filter: &Filter, indexes: Indexes<'_>) -> Self {
        run(filter, indexes, &|test| narrow_test(test, indexes))
    }

    /// How selective a look-up is; the lower, the fewer resources it finds.
    fn cost(&self) -> u8 {
        match self {
            Self::Nothing => 0,
            Self::Id(_) | Self::Text(TextIndex::UserName, TextTest::Is(_)) => 1,
            Self::Text(_, TextTest::Is(_)) => 2,
            Self::AnyOf(_) => 3,
            Self::HasMember(_) => 4,
            Self::Text(..) | Self::MemberOf(_) => 5,
            Self::Everything => 6,
        }
    }

    fn and(self, other: Self) -> Self {
        if other.cost() < self.cost() {
            other
        } else {
            self
        }
    }

    fn or(self, other: Self) -> Self {
        match (self, other) {
            (Self::Everything, _) | (_, Self::Everything) => Self::Everything,
            (Self::Nothing, other) => other,
            (this, Self::Nothing) => this,
            (Self::AnyOf(mut these), Self::AnyOf(others)) => {
                these.extend(others);
                Self::AnyOf(these)
            }
            (Self::AnyOf(mut many), one) | (one, Self::AnyOf(mut many)) => {
                many.push(one);
                Self::AnyOf(many)
            }
            (this, other) => Self::AnyOf(vec![this, other]),
        }
    }
}

/// Runs the filter's program with look-ups in the place of results.
fn run(filter: &Filter, indexes: Indexes<'_>, narrow: &dyn Fn(&Test) -> Narrowing) -> Narrowing {
    let mut stack: Vec<Narrowing> = Vec::new();
    for step in filter.steps() {
        let result = match step {
            Step::Test(test) => narrow(test),
            Step::AnyElement(target, elements) => narrow_elements(target, elements, indexes),
            Step::Not => {
                stack.pop();
                Narrowing::Everything
            }
            Step::And | Step::Or => match (stack.pop(), stack.pop()) {
                (Some(right), Some(left)) if *step == Step::And => left.and(right),
                (Some(right), Some(left)) => left.or(right),
                _ => Narrowing::Everything,
            },
        };
        stack.push(result);
    }
    stack.pop().unwrap_or(Narrowing::Everything)
}

/// A value path: its tests are on parts of one element, so `and` within it narrows as well.
fn narrow_elements(target: &Target, elements: &Filter, indexes: Indexes<'_>) -> Narrowing {
    run(elements, indexes, &|test| {
        let sub_attribute = Some(test.target.attribute.clone());
        let target = Target {
            sub_attribute,
            ..target.clone()
        };
        narrow_part(
            &Test {
                target,
                ..test.clone()
            },
            indexes.kind,
        )
    })
}

fn narrow_test(test: &Test, indexes: Indexes<'_>) -> Narrowing {
    if let Some(narrowing) = narrow_own(test, indexes) {
        return narrowing;
    }
    let kind = indexes.kind;
    let Test {
        target:
            Target {
                extension: None,
                attribute,
                sub_attribute: None,
            },
        operator,
        operand,
    } = test
    else {
        return narrow_part(test, kind);
    };
    let Operand::Text { key, .. } = operand else {
        return Narrowing::Everything;
    };
    match (kind, attribute.as_str(), operator) {
        (_, "id", Operator::Eq) => ResourceId::parse(key).map_or(Narrowing::Nothing, Narrowing::Id),
        (_, "externalId", Operator::Eq) => is(TextIndex::ExternalId, key),
        (ResourceKind::User, "userName", Operator::Eq) => is(TextIndex::UserName, key),
        (ResourceKind::User, "userName", Operator::Sw) if !key.is_empty() => {
            Narrowing::Text(TextIndex::UserName, TextTest::StartsWith(key.clone()))
        }
        (ResourceKind::Group, "displayName", Operator::Eq) => is(TextIndex::DisplayName, key),
        _ => Narrowing::Everything,
    }
}

fn is(index: TextIndex, key: &str) -> Narrowing {
    Narrowing::Text(index, TextTest::Is(key.to_owned()))
}

/// A test on an attribute of the tenant's own that it asked to be indexed.
fn narrow_own(test: &Test, indexes: Indexes<'_>) -> Option<Narrowing> {
    let Test {
        target,
        operator: Operator::Eq,
        operand: Operand::Text { key, .. },
    } = test
    else {
        return None;
    };
    let Target {
        extension: Some(urn),
        attribute,
        sub_attribute: None,
    } = target
    else {
        return None;
    };
    let name = own_index(urn, attribute);
    indexes
        .own
        .contains(&name)
        .then(|| is(TextIndex::Attribute(name), key))
}

/// The name of the index of an extension's attribute.
#[must_use]
pub fn own_index(urn: &str, attribute: &str) -> String {
    format!("{urn}:{attribute}")
}

/// A test on a sub-attribute: those of lists that have an index of their own.
fn narrow_part(test: &Test, kind: ResourceKind) -> Narrowing {
    let Test {
        target:
            Target {
                extension: None,
                attribute,
                sub_attribute: Some(sub_attribute),
            },
        operator: Operator::Eq,
        operand: Operand::Text { raw, key, .. },
    } = test
    else {
        return Narrowing::Everything;
    };
    let related = |narrowing: fn(ResourceId) -> Narrowing| {
        ResourceId::parse(raw).map_or(Narrowing::Nothing, narrowing)
    };
    match (kind, attribute.as_str(), sub_attribute.as_str()) {
        (ResourceKind::User, "emails", "value") => {
            is(TextIndex::Attribute(EMAILS_VALUE.to_owned()), key)
        }
        (ResourceKind::User, "groups", "value") => related(Narrowing::MemberOf),
        (ResourceKind::Group, "members", "value") => related(Narrowing::HasMember),
        _ => Narrowing::Everything,
    }
}

/// The least text that is above every text with this prefix, if there is one. UTF-8 sorts by
/// code point, so the last character is moved to the next one.
pub(in crate::store) fn prefix_end(prefix: &str) -> Option<String> {
    let mut rest = prefix.to_owned();
    while let Some(last) = rest.pop() {
        // The surrogates between U+D7FF and U+E000 are no characters.
        let next = match last {
            '\u{D7FF}' => Some('\u{E000}'),
            last => char::from_u32(u32::from(last) + 1),
        };
        if let Some(next) = next {
            rest.push(next);
            return Some(rest);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::scim::schema::USER;

    fn of(filter: &str) -> Narrowing {
        Narrowing::of(
            &Filter::parse(&USER, filter).unwrap(),
            Indexes {
                kind: ResourceKind::User,
                own: &[],
            },
        )
    }

    #[test]
    fn matching_queries_are_index_look_ups() {
        let email = || is(TextIndex::Attribute("emails.value".into()), "a@x.com");
        for (filter, narrowing) in [
            (
                "userName eq \"A@x.com\"",
                is(TextIndex::UserName, "a@x.com"),
            ),
            (
                "userName sw O",
                Narrowing::Text(TextIndex::UserName, TextTest::StartsWith("o".into())),
            ),
            ("externalId eq \"ABC\"", is(TextIndex::ExternalId, "ABC")),
            ("emails eq a@x.com", email()),
            ("email eq a@x.com", email()),
            ("workEmail eq A@x.com", email()),
            ("emails.value eq a@x.com", email()),
            ("emails[type eq \"work\"].value eq \"a@x.com\"", email()),
            ("emails[type eq \"work\" and value eq \"a@x.com\"]", email()),
            ("id eq nonsense", Narrowing::Nothing),
            (
                "active eq true and userName eq b",
                is(TextIndex::UserName, "b"),
            ),
            (
                "userName eq a or userName eq b",
                Narrowing::AnyOf(vec![
                    is(TextIndex::UserName, "a"),
                    is(TextIndex::UserName, "b"),
                ]),
            ),
            ("userName eq a or title pr", Narrowing::Everything),
            ("not (userName eq a)", Narrowing::Everything),
            ("userName ne a", Narrowing::Everything),
            ("userName co a", Narrowing::Everything),
            ("title eq x", Narrowing::Everything),
        ] {
            assert_eq!(of(filter), narrowing, "{filter}");
        }
    }

    #[test]
    fn the_end_of_a_prefix_is_the_next_text_of_its_length() {
        assert_eq!(prefix_end("ab").as_deref(), Some("ac"));
        assert_eq!(prefix_end("a\u{D7FF}").as_deref(), Some("a\u{E000}"));
        assert_eq!(prefix_end("a\u{10FFFF}").as_deref(), Some("b"));
        assert_eq!(prefix_end("\u{10FFFF}"), None);
    }

    proptest! {
        #[test]
        fn a_text_is_between_prefix_and_end_exactly_if_it_starts_with_the_prefix(
            prefix in "\\PC{1,3}", rest in "\\PC{0,3}", other in "\\PC{0,4}"
        ) {
            let inside = |text: &str| {
                text >= prefix.as_str() && prefix_end(&prefix).is_none_or(|end| text < end.as_str())
            };
            let longer = format!("{prefix}{rest}");
            prop_assert!(inside(&longer));
            prop_assert_eq!(inside(&other), other.starts_with(&prefix));
        }
    }
}
