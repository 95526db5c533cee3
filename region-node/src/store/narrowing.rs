//! From a filter to the index look-ups that find every resource that can match it.
//!
//! What comes out is always a superset of what matches; the evaluator decides. Terms that no
//! index serves widen to everything, `and` takes the side that finds fewer, `or` needs both.
//! `ne` and `not` are left to the evaluator. Which side finds fewer is judged by the kind of
//! look-up alone: nothing is counted, so a filter costs the same plan on every engine.

use std::ops::Bound;

use crate::scim::filter::{Filter, Operand, Operator, Step, Target, Test};
use crate::scim::user::EMAILS_VALUE;
use crate::scim::{ResourceId, ResourceKind};

use super::{Narrowing, TextIndex, TextTest};

/// How many rows of an index one look-up may read. Beyond it the engine answers
/// [`super::StoreError::OverBudget`].
pub const MOST_INDEX_ROWS: u32 = 2_000_000;

/// What is indexed of a kind of resources in a tenant.
#[derive(Clone, Copy, Debug)]
pub struct Indexes<'i> {
    /// The kind.
    pub kind: ResourceKind,
    /// Attributes of the tenant's own extensions.
    pub own: &'i [OwnIndex],
}

/// An indexed attribute of one of the tenant's own extensions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OwnIndex {
    /// Name of the index: see [`own_index`].
    pub name: String,
    /// Whether one resource can have several values.
    pub multi_valued: bool,
}

/// Whether all tests on an index are on one and the same value of a resource. Only then can two
/// of them be made one: `emails.value gt "a" and emails.value lt "c"` is true of a user with the
/// addresses "z" and "0".
type IsOneValue<'f> = &'f dyn Fn(&TextIndex) -> bool;

impl Narrowing {
    /// The look-ups that it stands for, none of which is `AnyOf`, `Nothing` or `Everything`: what
    /// any of them finds is a candidate. `None` where the list has to be walked, as it may always
    /// be, because a superset is always right.
    pub(in crate::store) fn look_ups(&self, kind: ResourceKind) -> Option<Vec<&Self>> {
        let mut look_ups = Vec::new();
        let mut waiting = vec![self];
        while let Some(narrowing) = waiting.pop() {
            match narrowing {
                Self::AnyOf(parts) => waiting.extend(parts),
                Self::Nothing => {}
                Self::Everything => return None,
                // Users are not indexed by displayName: every create would pay for it.
                Self::Text(TextIndex::DisplayName, _) if kind == ResourceKind::User => {
                    return None;
                }
                one => look_ups.push(one),
            }
        }
        Some(look_ups)
    }

    /// The narrowest look-up for a filter over resources of a kind.
    #[must_use]
    pub fn of(filter: &Filter, indexes: Indexes<'_>) -> Self {
        let is_one_value = |index: &TextIndex| match index {
            TextIndex::UserName | TextIndex::ExternalId | TextIndex::DisplayName => true,
            TextIndex::Attribute(name) => indexes
                .own
                .iter()
                .any(|own| own.name == *name && !own.multi_valued),
        };
        let narrow = |step: &Step| match step {
            Step::Test(test) => narrow_test(&test.target, test, indexes),
            Step::AnyElement(target, elements) => narrow_elements(target, elements, indexes),
            Step::Not | Step::And | Step::Or => Self::Everything,
        };
        run(filter, &narrow, &is_one_value)
    }

    /// Whether everything that it finds for this filter matches it: the filter is one comparison
    /// with a text, and the evaluator would compare the same keys again.
    #[must_use]
    pub fn is_exact(&self, filter: &Filter) -> bool {
        let is_comparison = matches!(
            filter.steps(),
            [Step::Test(Test {
                operator: Operator::Eq,
                operand: Operand::Text { .. },
                ..
            })]
        );
        is_comparison && matches!(self, Self::Text(_, TextTest::Is(_)))
    }

    /// Whether its indexes give what they find in list order, so that reading on costs no more
    /// than reading at once.
    #[must_use]
    pub fn is_in_order(&self) -> bool {
        let is_in_order = |one: &Self| match one {
            Self::Text(_, test) => matches!(test, TextTest::Is(_)),
            Self::AnyOf(_) => false,
            _ => true,
        };
        match self {
            Self::AnyOf(parts) => parts.iter().all(is_in_order),
            one => is_in_order(one),
        }
    }

    /// About how many resources a look-up finds in a large tenant. Only the order means anything.
    fn cost(&self) -> u32 {
        match self {
            Self::Nothing => 0,
            Self::Id(_) => 1,
            Self::Text(TextIndex::UserName | TextIndex::DisplayName, TextTest::Is(_)) => 1,
            Self::Text(_, TextTest::Is(_)) => 3,
            Self::HasMember(_) => 20,
            Self::Text(_, TextTest::StartsWith(_)) => 500,
            Self::MemberOf(_) => 1_000,
            Self::Text(_, TextTest::Range { from, to })
                if *from != Bound::Unbounded && *to != Bound::Unbounded =>
            {
                5_000
            }
            // These read the whole index, and few resources.
            Self::Text(_, TextTest::Contains(_) | TextTest::EndsWith(_)) => 8_000,
            Self::Text(_, TextTest::Range { .. }) => 40_000,
            Self::Text(_, TextTest::Present) => 90_000,
            Self::AnyOf(parts) => parts
                .iter()
                .fold(0, |sum, part| part.cost().saturating_add(sum)),
            Self::Everything => u32::MAX,
        }
    }

    fn and(self, other: Self, is_one_value: IsOneValue<'_>) -> Self {
        match (self, other) {
            (
                Self::Text(index, TextTest::Range { from, to }),
                Self::Text(
                    other,
                    TextTest::Range {
                        from: other_from,
                        to: other_to,
                    },
                ),
            ) if index == other && is_one_value(&index) => {
                let from = higher_start(from, other_from);
                let to = lower_end(to, other_to);
                if is_empty(&from, &to) {
                    return Self::Nothing;
                }
                Self::Text(index, TextTest::Range { from, to })
            }
            (this, other) if other.cost() < this.cost() => other,
            (this, _) => this,
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

fn higher_start(a: Bound<String>, b: Bound<String>) -> Bound<String> {
    match (a, b) {
        (Bound::Unbounded, other) | (other, Bound::Unbounded) => other,
        (Bound::Included(a), Bound::Included(b)) => Bound::Included(a.max(b)),
        (Bound::Excluded(a), Bound::Excluded(b)) => Bound::Excluded(a.max(b)),
        (Bound::Included(in_), Bound::Excluded(out))
        | (Bound::Excluded(out), Bound::Included(in_)) => {
            if in_ > out {
                Bound::Included(in_)
            } else {
                Bound::Excluded(out)
            }
        }
    }
}

fn lower_end(a: Bound<String>, b: Bound<String>) -> Bound<String> {
    match (a, b) {
        (Bound::Unbounded, other) | (other, Bound::Unbounded) => other,
        (Bound::Included(a), Bound::Included(b)) => Bound::Included(a.min(b)),
        (Bound::Excluded(a), Bound::Excluded(b)) => Bound::Excluded(a.min(b)),
        (Bound::Included(in_), Bound::Excluded(out))
        | (Bound::Excluded(out), Bound::Included(in_)) => {
            if in_ < out {
                Bound::Included(in_)
            } else {
                Bound::Excluded(out)
            }
        }
    }
}

fn is_empty(from: &Bound<String>, to: &Bound<String>) -> bool {
    match (from, to) {
        (Bound::Unbounded, _) | (_, Bound::Unbounded) => false,
        (Bound::Included(from), Bound::Included(to)) => from > to,
        (
            Bound::Included(from) | Bound::Excluded(from),
            Bound::Included(to) | Bound::Excluded(to),
        ) => from >= to,
    }
}

/// Runs a filter's program with look-ups in the place of results.
fn run(
    filter: &Filter,
    narrow: &dyn Fn(&Step) -> Narrowing,
    is_one_value: IsOneValue<'_>,
) -> Narrowing {
    let mut stack: Vec<Narrowing> = Vec::new();
    for step in filter.steps() {
        let result = match step {
            Step::Test(_) | Step::AnyElement(..) => narrow(step),
            Step::Not => {
                stack.pop();
                Narrowing::Everything
            }
            Step::And | Step::Or => match (stack.pop(), stack.pop()) {
                (Some(right), Some(left)) if *step == Step::And => left.and(right, is_one_value),
                (Some(right), Some(left)) => left.or(right),
                _ => Narrowing::Everything,
            },
        };
        stack.push(result);
    }
    stack.pop().unwrap_or(Narrowing::Everything)
}

/// A value path: its tests are on parts of one element, so two of them on `value` are on one
/// value.
fn narrow_elements(target: &Target, elements: &Filter, indexes: Indexes<'_>) -> Narrowing {
    let narrow = |step: &Step| match step {
        Step::Test(test) => narrow_test(&part(target, test), test, indexes),
        _ => Narrowing::Everything,
    };
    run(elements, &narrow, &|_| true)
}

/// What a test within a value path is on, seen from the resource.
fn part(target: &Target, test: &Test) -> Target {
    Target {
        sub_attribute: Some(test.target.attribute.clone()),
        ..target.clone()
    }
}

fn narrow_test(target: &Target, test: &Test, indexes: Indexes<'_>) -> Narrowing {
    if let Some(index) = text_index(target, indexes) {
        return match text_test(test) {
            // Everybody has one: the list itself is the better index.
            Some(TextTest::Present)
                if matches!(index, TextIndex::UserName | TextIndex::DisplayName) =>
            {
                Narrowing::Everything
            }
            Some(test) => Narrowing::Text(index, test),
            None => Narrowing::Everything,
        };
    }
    let (Operator::Eq, Operand::Text { raw, .. }, None) =
        (test.operator, &test.operand, &target.extension)
    else {
        return Narrowing::Everything;
    };
    let of_resource = |narrowing: fn(ResourceId) -> Narrowing| {
        ResourceId::parse(raw).map_or(Narrowing::Nothing, narrowing)
    };
    match (
        indexes.kind,
        target.attribute.as_str(),
        target.sub_attribute.as_deref(),
    ) {
        (_, "id", None) => of_resource(Narrowing::Id),
        (ResourceKind::User, "groups", Some("value")) => of_resource(Narrowing::MemberOf),
        (ResourceKind::Group, "members", Some("value")) => of_resource(Narrowing::HasMember),
        _ => Narrowing::Everything,
    }
}

/// The index over what a test is on, if there is one.
fn text_index(target: &Target, indexes: Indexes<'_>) -> Option<TextIndex> {
    let Target {
        extension,
        attribute,
        sub_attribute,
    } = target;
    if let Some(urn) = extension {
        let name = own_index(urn, attribute);
        let is_indexed = indexes.own.iter().any(|own| own.name == name);
        return (sub_attribute.is_none() && is_indexed).then_some(TextIndex::Attribute(name));
    }
    match (indexes.kind, attribute.as_str(), sub_attribute.as_deref()) {
        (_, "externalId", None) => Some(TextIndex::ExternalId),
        (ResourceKind::User, "userName", None) => Some(TextIndex::UserName),
        (ResourceKind::Group, "displayName", None) => Some(TextIndex::DisplayName),
        // `emails pr` is also true of an address without a value: no index has it.
        (ResourceKind::User, "emails", Some("value")) => {
            Some(TextIndex::Attribute(EMAILS_VALUE.to_owned()))
        }
        _ => None,
    }
}

/// A test as one on keys. The evaluator compares the keys of values as bytes, and these are the
/// keys that are stored.
fn text_test(test: &Test) -> Option<TextTest> {
    let key = match (test.operator, &test.operand) {
        (Operator::Pr, _) | (Operator::Ne, Operand::Null) => return Some(TextTest::Present),
        (_, Operand::Text { key, .. }) => key.clone(),
        _ => return None,
    };
    let range = |from, to| TextTest::Range { from, to };
    Some(match test.operator {
        Operator::Eq => TextTest::Is(key),
        // Every text starts with, ends with and contains the empty one.
        Operator::Sw | Operator::Co | Operator::Ew if key.is_empty() => TextTest::Present,
        Operator::Sw => TextTest::StartsWith(key),
        Operator::Co => TextTest::Contains(key),
        Operator::Ew => TextTest::EndsWith(key),
        Operator::Gt => range(Bound::Excluded(key), Bound::Unbounded),
        Operator::Ge => range(Bound::Included(key), Bound::Unbounded),
        Operator::Lt => range(Bound::Unbounded, Bound::Excluded(key)),
        Operator::Le => range(Bound::Unbounded, Bound::Included(key)),
        Operator::Ne | Operator::Pr => return None,
    })
}

/// The name of the index of an extension's attribute.
#[must_use]
pub fn own_index(urn: &str, attribute: &str) -> String {
    format!("{urn}:{attribute}")
}

/// The least text that is above every text with this prefix, if there is one. UTF-8 sorts by
/// code point, so the last character is moved to the next one.
#[must_use]
pub fn prefix_end(prefix: &str) -> Option<String> {
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

/// The attribute of the first comparison in a filter that no index serves, as a filter names it;
/// for an administrator who asks why a filter is refused. `None` where each comparison has one:
/// then `not` is in the way, or the look-ups find too many.
#[must_use]
pub fn unserved(filter: &Filter, indexes: Indexes<'_>) -> Option<String> {
    for step in filter.steps() {
        match step {
            Step::Test(test) => {
                if narrow_test(&test.target, test, indexes) == Narrowing::Everything {
                    return Some(name_of(&test.target));
                }
            }
            Step::AnyElement(target, elements) => {
                if narrow_elements(target, elements, indexes) != Narrowing::Everything {
                    continue;
                }
                let parts = elements.steps().iter().filter_map(|step| match step {
                    Step::Test(test) => Some((part(target, test), test)),
                    _ => None,
                });
                for (target, test) in parts {
                    if narrow_test(&target, test, indexes) == Narrowing::Everything {
                        return Some(name_of(&target));
                    }
                }
            }
            Step::Not | Step::And | Step::Or => {}
        }
    }
    None
}

fn name_of(target: &Target) -> String {
    let mut name = match &target.extension {
        Some(urn) => own_index(urn, &target.attribute),
        None => target.attribute.clone(),
    };
    if let Some(sub_attribute) = &target.sub_attribute {
        name.push('.');
        name.push_str(sub_attribute);
    }
    name
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::scim::schema::{GROUP, Schema, USER};

    const OWN: &str = "urn:acme:2.0:User";

    fn own() -> [OwnIndex; 2] {
        [("badge", false), ("tags", true)].map(|(attribute, multi_valued)| OwnIndex {
            name: own_index(OWN, attribute),
            multi_valued,
        })
    }

    fn users() -> crate::scim::schema::ResourceSchema {
        let mut schema = USER.clone();
        let own = serde_json::json!({"id": OWN, "attributes": [
            {"name": "badge"}, {"name": "tags", "multiValued": true}, {"name": "floor"},
        ]});
        schema.extensions.push(Schema::parse(&own).unwrap());
        schema
    }

    fn in_users<T>(filter: &str, ask: impl Fn(&Filter, Indexes<'_>) -> T) -> T {
        let filter = Filter::parse(&users(), filter).unwrap_or_else(|e| panic!("{filter}: {e}"));
        let indexes = Indexes {
            kind: ResourceKind::User,
            own: &own(),
        };
        ask(&filter, indexes)
    }

    fn is(index: TextIndex, key: &str) -> Narrowing {
        Narrowing::Text(index, TextTest::Is(key.to_owned()))
    }

    fn range(index: TextIndex, from: Bound<&str>, to: Bound<&str>) -> Narrowing {
        let (from, to) = (from.map(str::to_owned), to.map(str::to_owned));
        Narrowing::Text(index, TextTest::Range { from, to })
    }

    #[test]
    fn filters_are_index_look_ups() {
        use Bound::{Excluded, Included, Unbounded};
        use Narrowing::{Everything, Nothing, Text};
        use TextIndex::{ExternalId, UserName};
        use TextTest::{Contains, EndsWith, Present, StartsWith};
        let emails = || TextIndex::Attribute("emails.value".into());
        let email = || is(emails(), "a@x.com");
        let badge = || TextIndex::Attribute(format!("{OWN}:badge"));
        let tags = || TextIndex::Attribute(format!("{OWN}:tags"));
        let id = "2819c223-7f76-453a-919d-413861904646";
        for (filter, narrowing) in [
            ("userName eq \"A@x.com\"", is(UserName, "a@x.com")),
            ("userName sw O", Text(UserName, StartsWith("o".into()))),
            (
                "userName co \"O'M\"",
                Text(UserName, Contains("o'm".into())),
            ),
            ("userName ew COM", Text(UserName, EndsWith("com".into()))),
            ("userName gt M", range(UserName, Excluded("m"), Unbounded)),
            ("userName ge M", range(UserName, Included("m"), Unbounded)),
            ("userName lt M", range(UserName, Unbounded, Excluded("m"))),
            ("userName le M", range(UserName, Unbounded, Included("m"))),
            ("externalId eq \"ABC\"", is(ExternalId, "ABC")),
            ("externalId co AB", Text(ExternalId, Contains("AB".into()))),
            ("externalId pr", Text(ExternalId, Present)),
            ("externalId ne null", Text(ExternalId, Present)),
            ("externalId co \"\"", Text(ExternalId, Present)),
            ("externalId eq null", Everything),
            ("emails eq a@x.com", email()),
            ("email eq a@x.com", email()),
            ("workEmail eq A@x.com", email()),
            ("emails.value eq a@x.com", email()),
            ("emails[type eq \"work\"].value eq \"a@x.com\"", email()),
            ("emails[type eq \"work\" and value eq \"a@x.com\"]", email()),
            ("emails.value pr", Text(emails(), Present)),
            ("emails pr", Everything),
            ("emails.type pr", Everything),
            ("emails[value pr]", Text(emails(), Present)),
            ("emails[not (value eq \"a\")]", Everything),
            ("badge sw X", Text(badge(), StartsWith("x".into()))),
            ("urn:acme:2.0:User:tags eq A", is(tags(), "a")),
            ("floor eq 3", Everything),
            ("id eq nonsense", Nothing),
            (
                &format!("id eq {id}"),
                Narrowing::Id(ResourceId::parse(id).unwrap()),
            ),
            (
                &format!("groups eq {id}"),
                Narrowing::MemberOf(ResourceId::parse(id).unwrap()),
            ),
            ("groups[value eq x]", Nothing),
            ("groups co x", Everything),
            ("not (userName eq a)", Everything),
            ("userName ne a", Everything),
            ("userName pr", Everything),
            ("userName ew \"\"", Everything),
            ("displayName eq a", Everything),
            ("title eq x", Everything),
        ] {
            assert_eq!(in_users(filter, Narrowing::of), narrowing, "{filter}");
        }
    }

    #[test]
    fn and_takes_the_side_that_finds_fewer() {
        for (fewer, more) in [
            ("userName eq b", "active eq true"),
            ("userName eq b", "userName sw a"),
            ("userName sw b", "emails.value co x"),
            (
                "badge eq b",
                "groups eq 2819c223-7f76-453a-919d-413861904646",
            ),
            ("userName ew b", "userName gt a"),
            ("externalId gt b", "externalId pr"),
            ("externalId pr", "title eq x"),
            ("userName eq b or userName eq c", "userName sw a"),
            ("userName sw a", "emails.value eq b or emails.value pr"),
            ("id eq nonsense", "userName eq b"),
        ] {
            let expected = in_users(fewer, Narrowing::of);
            for both in [
                format!("({fewer}) and ({more})"),
                format!("({more}) and ({fewer})"),
            ] {
                assert_eq!(in_users(&both, Narrowing::of), expected, "{both}");
            }
        }
    }

    #[test]
    fn ranges_of_one_value_are_one_range() {
        use Bound::{Excluded, Included, Unbounded};
        use TextIndex::UserName;
        let badge = || TextIndex::Attribute(format!("{OWN}:badge"));
        let tags = || TextIndex::Attribute(format!("{OWN}:tags"));
        let emails = || TextIndex::Attribute("emails.value".into());
        for (filter, narrowing) in [
            (
                "userName gt a and userName lt c",
                range(UserName, Excluded("a"), Excluded("c")),
            ),
            (
                "userName le c and userName ge a and userName gt a and userName lt d",
                range(UserName, Excluded("a"), Included("c")),
            ),
            (
                "userName ge b and userName gt a",
                range(UserName, Included("b"), Unbounded),
            ),
            (
                "userName ge b and userName le b",
                range(UserName, Included("b"), Included("b")),
            ),
            ("userName gt b and userName le b", Narrowing::Nothing),
            ("userName gt b and userName lt a", Narrowing::Nothing),
            (
                "badge gt a and badge lt c",
                range(badge(), Excluded("a"), Excluded("c")),
            ),
            // One resource can have a value on each side.
            (
                "tags gt c and tags lt a",
                range(tags(), Excluded("c"), Unbounded),
            ),
            (
                "emails.value gt c and emails.value lt a",
                range(emails(), Excluded("c"), Unbounded),
            ),
            (
                "emails[value gt c] and emails[value lt a]",
                range(emails(), Excluded("c"), Unbounded),
            ),
            ("emails[value gt c and value lt a]", Narrowing::Nothing),
            (
                "emails[value ge a and type eq work and value lt c]",
                range(emails(), Included("a"), Excluded("c")),
            ),
        ] {
            assert_eq!(in_users(filter, Narrowing::of), narrowing, "{filter}");
        }
    }

    #[test]
    fn or_needs_an_index_on_both_sides() {
        use TextIndex::UserName;
        for (filter, narrowing) in [
            (
                "userName eq a or userName eq b or userName eq c",
                Narrowing::AnyOf(vec![
                    is(UserName, "a"),
                    is(UserName, "b"),
                    is(UserName, "c"),
                ]),
            ),
            ("userName eq a or id eq nonsense", is(UserName, "a")),
            ("userName eq a or title pr", Narrowing::Everything),
            (
                "(userName eq a or title pr) and userName eq b",
                is(UserName, "b"),
            ),
        ] {
            assert_eq!(in_users(filter, Narrowing::of), narrowing, "{filter}");
        }
    }

    #[test]
    fn groups_have_indexes_of_their_own() {
        let id = "2819c223-7f76-453a-919d-413861904646";
        let member = || Narrowing::HasMember(ResourceId::parse(id).unwrap());
        let of = |filter: &str| {
            let kind = ResourceKind::Group;
            let filter = Filter::parse(&GROUP, filter).unwrap();
            Narrowing::of(&filter, Indexes { kind, own: &[] })
        };
        for (filter, narrowing) in [
            ("displayName eq A", is(TextIndex::DisplayName, "a")),
            (
                "displayName sw A",
                Narrowing::Text(TextIndex::DisplayName, TextTest::StartsWith("a".into())),
            ),
            ("externalId eq A", is(TextIndex::ExternalId, "A")),
            (&format!("members eq {id}"), member()),
            (
                &format!("members[type eq \"User\" and value eq \"{id}\"]"),
                member(),
            ),
            ("displayName pr", Narrowing::Everything),
            ("members pr", Narrowing::Everything),
        ] {
            assert_eq!(of(filter), narrowing, "{filter}");
        }
    }

    #[test]
    fn what_no_index_serves_is_named() {
        for (filter, name) in [
            ("title co x", Some("title")),
            (
                "userName eq a or name.familyName eq b",
                Some("name.familyName"),
            ),
            (
                "emails[type eq work] and active eq true",
                Some("emails.type"),
            ),
            (
                "emails[type eq work and value co x] and active eq true",
                Some("active"),
            ),
            ("badge eq x or floor eq 3", Some("urn:acme:2.0:User:floor")),
            ("userName ne a", Some("userName")),
            ("not (userName eq a)", None),
            ("userName gt a", None),
        ] {
            assert_eq!(in_users(filter, unserved).as_deref(), name, "{filter}");
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
