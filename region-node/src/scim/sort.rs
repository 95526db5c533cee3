//! Sorting: `sortBy` and `sortOrder` (RFC 7644 section 3.4.2.3).

use std::cmp::Ordering;

use serde_json::{Map, Value};

use super::path::{AttributePath, Path};
use super::schema::{AttributeType, ResourceSchema, Returned};
use super::{datetime, text};

/// By what to sort, and in which direction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sort {
    extension: Option<String>,
    attribute: String,
    sub_attribute: Option<String>,
    kind: AttributeType,
    case_exact: bool,
    descending: bool,
}

/// The parameters cannot be followed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SortError {
    /// No such attribute, or one that cannot be sorted by.
    #[error("'sortBy' must name an attribute of the schema that has plain values.")]
    SortBy,
    /// Neither direction.
    #[error("'sortOrder' must be 'ascending' or 'descending'.")]
    SortOrder,
}

impl Sort {
    /// Reads the parameters. Ascending unless it is said otherwise.
    ///
    /// # Errors
    /// [`SortError`], for a 400.
    pub fn parse(
        schema: &ResourceSchema,
        sort_by: &str,
        sort_order: Option<&str>,
    ) -> Result<Self, SortError> {
        let Ok(Path::Attribute(AttributePath {
            located,
            filter: None,
            sub_attribute,
        })) = Path::parse(schema, sort_by)
        else {
            return Err(SortError::SortBy);
        };
        let descending = match sort_order.map(str::trim) {
            None | Some("") => false,
            Some(order) if order.eq_ignore_ascii_case("ascending") => false,
            Some(order) if order.eq_ignore_ascii_case("descending") => true,
            Some(_) => return Err(SortError::SortOrder),
        };
        // An object stands for its `value`: `sortBy=emails`.
        let sub_attribute = sub_attribute.or_else(|| located.attribute.value());
        let sorted = sub_attribute.unwrap_or(located.attribute);
        if sorted.kind == AttributeType::Complex || sorted.returned == Returned::Never {
            return Err(SortError::SortBy);
        }
        Ok(Self {
            extension: located.extension.map(|extension| extension.urn.clone()),
            attribute: located.attribute.name.clone(),
            sub_attribute: sub_attribute.map(|sub_attribute| sub_attribute.name.clone()),
            kind: sorted.kind,
            case_exact: sorted.case_exact,
            descending,
        })
    }

    /// Whether it sorts by a core attribute: what is derived at a cost is derived only then.
    #[must_use]
    pub fn is_by(&self, attribute: &str) -> bool {
        self.extension.is_none() && self.attribute == attribute
    }

    /// The place of a resource in the order. `resource` is the tree that a client sees.
    #[must_use]
    pub fn key(&self, resource: &Map<String, Value>) -> SortKey {
        let value = self.value(resource).and_then(|value| self.plain(value));
        SortKey {
            value,
            descending: self.descending,
        }
    }

    /// Of a list the primary element, else the first.
    fn value<'r>(&self, resource: &'r Map<String, Value>) -> Option<&'r Value> {
        let home = match &self.extension {
            None => resource,
            Some(urn) => resource.get(urn)?.as_object()?,
        };
        let held = match home.get(&self.attribute)? {
            Value::Array(elements) => {
                let primary = elements
                    .iter()
                    .find(|e| e.get("primary") == Some(&Value::Bool(true)));
                primary.or_else(|| elements.first())?
            }
            one => one,
        };
        match &self.sub_attribute {
            Some(name) if held.is_object() => held.get(name),
            _ => Some(held),
        }
    }

    fn plain(&self, value: &Value) -> Option<Plain> {
        match (self.kind, value) {
            (AttributeType::DateTime, Value::String(text)) => {
                datetime::parse(text).map(|moment| Plain::Moment(moment.as_nanosecond()))
            }
            (_, Value::String(text)) if self.case_exact => Some(Plain::Text(text.clone())),
            (_, Value::String(text)) => Some(Plain::Text(text::key(text).into_owned())),
            (_, Value::Bool(value)) => Some(Plain::Boolean(*value)),
            (_, Value::Number(number)) => number.as_f64().map(Plain::Number),
            _ => None,
        }
    }
}

/// A place in the order. What has no value comes last when ascending and first when descending.
#[derive(Clone, Debug, PartialEq)]
pub struct SortKey {
    value: Option<Plain>,
    descending: bool,
}

#[derive(Clone, Debug, PartialEq)]
enum Plain {
    Boolean(bool),
    Number(f64),
    Moment(i128),
    Text(String),
}

impl Plain {
    fn compare(&self, other: &Self) -> Ordering {
        match (self, other) {
            (Self::Boolean(a), Self::Boolean(b)) => a.cmp(b),
            (Self::Number(a), Self::Number(b)) => a.total_cmp(b),
            (Self::Moment(a), Self::Moment(b)) => a.cmp(b),
            (Self::Text(a), Self::Text(b)) => a.cmp(b),
            // One attribute has one type.
            _ => Ordering::Equal,
        }
    }
}

impl SortKey {
    /// Which of two comes first.
    #[must_use]
    pub fn compare(&self, other: &Self) -> Ordering {
        let ascending = match (&self.value, &other.value) {
            (Some(a), Some(b)) => a.compare(b),
            (Some(_), None) => Ordering::Less,
            (None, Some(_)) => Ordering::Greater,
            (None, None) => Ordering::Equal,
        };
        if self.descending {
            ascending.reverse()
        } else {
            ascending
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::schema::USER;
    use super::*;

    fn sorted(sort_by: &str, sort_order: Option<&str>) -> String {
        let sort = Sort::parse(&USER, sort_by, sort_order).unwrap();
        let mut users = [
            json!({"id": "a", "userName": "b", "title": "z", "emails": [{"value": "3"}, {"value": "1", "primary": true}], "active": true}),
            json!({"id": "b", "userName": "C", "emails": [{"value": "2"}], "active": false}),
            json!({"id": "c", "userName": "a", "title": "Y", "meta": {"created": "2020-01-01T00:00:00Z"}}),
        ];
        users.sort_by(|a, b| {
            sort.key(a.as_object().unwrap())
                .compare(&sort.key(b.as_object().unwrap()))
        });
        users.iter().filter_map(|u| u["id"].as_str()).collect()
    }

    #[test]
    fn rfc7644_3_4_2_3_order() {
        assert_eq!(sorted("userName", None), "cab");
        assert_eq!(sorted("USERNAME", Some("Descending")), "bac");
        assert_eq!(sorted("title", Some("ascending")), "cab");
        assert_eq!(sorted("title", Some("descending")), "bac");
        assert_eq!(sorted("emails", None), "abc");
        assert_eq!(sorted("emails.value", Some("descending")), "cba");
        assert_eq!(sorted("active", None), "bac");
        assert_eq!(sorted("meta.created", None), "cab");
        for bad in [
            "name",
            "password",
            "unknown",
            "emails[type eq \"work\"]",
            "",
        ] {
            assert_eq!(
                Sort::parse(&USER, bad, None),
                Err(SortError::SortBy),
                "{bad}"
            );
        }
        assert_eq!(
            Sort::parse(&USER, "userName", Some("up")),
            Err(SortError::SortOrder)
        );
    }
}
