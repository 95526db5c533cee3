//! Queries: the parameters of a list request and the list response (RFC 7644 section 3.4.2).

use percent_encoding::percent_decode_str;
use serde_json::{Map, Value};
use shared::urn;

/// Most resources on one page; more are asked for in vain. At least 100, because Okta's import
/// asks for 100 and goes on at 101 whatever it was given.
pub const MAX_COUNT: u32 = 1000;
/// How many resources a page has when the client does not say.
pub const DEFAULT_COUNT: u32 = 100;

/// What a list request asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListRequest {
    /// The filter, not yet parsed.
    pub filter: Option<String>,
    /// The first result, from 1.
    pub start_index: u64,
    /// How many results.
    pub count: u32,
    /// `attributes`, not yet parsed.
    pub attributes: Option<String>,
    /// `excludedAttributes`, not yet parsed.
    pub excluded_attributes: Option<String>,
    /// `sortBy`, not yet parsed.
    pub sort_by: Option<String>,
    /// `sortOrder`, not yet parsed.
    pub sort_order: Option<String>,
    /// `cursor` (RFC 9865 section 2); blank asks for the first page.
    pub cursor: Option<String>,
}

impl Default for ListRequest {
    fn default() -> Self {
        Self {
            filter: None,
            start_index: 1,
            count: DEFAULT_COUNT,
            attributes: None,
            excluded_attributes: None,
            sort_by: None,
            sort_order: None,
            cursor: None,
        }
    }
}

/// The query string cannot be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum QueryError {
    /// Percent-encoding that yields no UTF-8, or a NUL.
    #[error("The query string is not percent-encoded UTF-8.")]
    Encoding,
    /// A parameter of a search request has another type than text or a list of texts.
    #[error("The parameters of a search request must be texts, or lists of names.")]
    Text,
    /// The same of the filter.
    #[error("The filter is not percent-encoded UTF-8.")]
    FilterEncoding,
    /// `startIndex` is no whole number.
    #[error("'startIndex' must be a whole number.")]
    StartIndex,
    /// `count` is no whole number.
    #[error("'count' must be a whole number.")]
    Count,
}

impl ListRequest {
    /// Reads a query string. Keys have no case; unknown ones, blank ones and dangling `&` are
    /// skipped; `startIndex` below 1 is 1, a negative `count` is 0, one above the maximum is the
    /// maximum (RFC 7644 section 3.4.2.4).
    ///
    /// # Errors
    /// [`QueryError`], for a 400 `invalidValue`.
    pub fn parse(query: &str) -> Result<Self, QueryError> {
        let mut request = Self::default();
        for pair in query.split('&') {
            let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
            let key = decode(key)?;
            let is = |name: &str| key.eq_ignore_ascii_case(name);
            if is("filter") {
                let filter = decode(value).map_err(|_| QueryError::FilterEncoding)?;
                request.filter = Some(filter);
            } else if is("startIndex") {
                let index = whole_number(&decode(value)?, 1).ok_or(QueryError::StartIndex)?;
                request.start_index = u64::try_from(index).unwrap_or(0).max(1);
            } else if is("count") {
                let count =
                    whole_number(&decode(value)?, DEFAULT_COUNT.into()).ok_or(QueryError::Count)?;
                request.count = u32::try_from(count.clamp(0, MAX_COUNT.into())).unwrap_or(0);
            } else if is("attributes") {
                request.attributes = Some(decode(value)?);
            } else if is("excludedAttributes") {
                request.excluded_attributes = Some(decode(value)?);
            } else if is("sortBy") {
                request.sort_by = Some(decode(value)?).filter(|name| !name.trim().is_empty());
            } else if is("sortOrder") {
                request.sort_order = Some(decode(value)?);
            } else if is("cursor") {
                request.cursor = Some(decode(value)?);
            }
        }
        Ok(request)
    }

    /// Reads of a query string what says how one resource is shown; everything else is skipped.
    ///
    /// # Errors
    /// [`QueryError::Encoding`], for a 400 `invalidValue`.
    pub fn parse_view(query: &str) -> Result<Self, QueryError> {
        let names = ["attributes", "excludedattributes"];
        let is_view = |pair: &&str| {
            let key = pair
                .split('=')
                .next()
                .unwrap_or_default()
                .to_ascii_lowercase();
            names.contains(&key.as_str())
        };
        Self::parse(
            &query
                .split('&')
                .filter(is_view)
                .collect::<Vec<_>>()
                .join("&"),
        )
    }

    /// Reads the body of a search request (RFC 7644 section 3.4.3): the same parameters, lists of
    /// names as lists.
    ///
    /// # Errors
    /// [`QueryError`], for a 400 `invalidValue`.
    pub fn from_body(body: Map<String, Value>) -> Result<Self, QueryError> {
        let mut request = Self::default();
        for (name, value) in body {
            if value.is_null() {
                continue;
            }
            let is = |wanted: &str| name.eq_ignore_ascii_case(wanted);
            let text = |value: Value| match value {
                Value::String(text) => Ok(Some(text)),
                _ => Err(QueryError::Text),
            };
            if is("filter") {
                request.filter = text(value)?;
            } else if is("startIndex") {
                let index = json_number(&value).ok_or(QueryError::StartIndex)?;
                request.start_index = u64::try_from(index).unwrap_or(0).max(1);
            } else if is("count") {
                let count = json_number(&value).ok_or(QueryError::Count)?;
                request.count = u32::try_from(count.clamp(0, MAX_COUNT.into())).unwrap_or(0);
            } else if is("attributes") {
                request.attributes = Some(joined(value)?);
            } else if is("excludedAttributes") {
                request.excluded_attributes = Some(joined(value)?);
            } else if is("sortBy") {
                request.sort_by = text(value)?.filter(|name| !name.trim().is_empty());
            } else if is("sortOrder") {
                request.sort_order = text(value)?;
            } else if is("cursor") {
                request.cursor = text(value)?;
            }
        }
        Ok(request)
    }
}

/// A whole number, or one in a string.
fn json_number(value: &Value) -> Option<i64> {
    value.as_i64().or_else(|| whole_number(value.as_str()?, 1))
}

/// A list of names, or names separated by commas.
fn joined(value: Value) -> Result<String, QueryError> {
    match value {
        Value::String(names) => Ok(names),
        Value::Array(names) => {
            let names = names
                .iter()
                .map(|name| name.as_str().ok_or(QueryError::Text));
            Ok(names.collect::<Result<Vec<_>, _>>()?.join(","))
        }
        _ => Err(QueryError::Text),
    }
}

/// A whole number of any size, cut to what 64 bits hold; `blank` where there is nothing.
fn whole_number(text: &str, blank: i64) -> Option<i64> {
    let text = text.trim();
    let digits = text.strip_prefix(['-', '+']).unwrap_or(text);
    if text.is_empty() {
        return Some(blank);
    }
    if digits.is_empty() || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    Some(text.parse().unwrap_or(if text.starts_with('-') {
        i64::MIN
    } else {
        i64::MAX
    }))
}

/// Decodes a part of a query string. Entra and OneLogin write blanks as `+`; clients that write
/// them as `%20` mean a plus by a plus.
fn decode(part: &str) -> Result<String, QueryError> {
    let plus_is_blank = part.contains('+') && !part.contains("%20") && !part.contains(' ');
    let text = if plus_is_blank {
        part.replace('+', " ")
    } else {
        part.to_owned()
    };
    let decoded = percent_decode_str(&text)
        .decode_utf8()
        .map_err(|_| QueryError::Encoding)?;
    if decoded.contains('\0') {
        Err(QueryError::Encoding)
    } else {
        Ok(decoded.into_owned())
    }
}

/// Where a list response stands in the whole list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Standing {
    /// Index paging: the first result's number.
    StartIndex(u64),
    /// Cursor paging (RFC 9865): the cursors of the pages before and behind.
    Cursors {
        /// `previousCursor`.
        previous: Option<String>,
        /// `nextCursor`.
        next: Option<String>,
    },
}

/// The list response around resources that are text already.
#[must_use]
pub fn list_response(total_results: u64, standing: &Standing, resources: &[String]) -> String {
    let size: usize = resources.iter().map(|resource| resource.len() + 1).sum();
    let mut body = String::with_capacity(size + 400);
    body.push_str("{\"schemas\":[\"");
    body.push_str(urn::LIST_RESPONSE);
    let items = resources.len();
    body.push_str(&format!(
        "\"],\"totalResults\":{total_results},\"itemsPerPage\":{items}"
    ));
    match standing {
        Standing::StartIndex(start_index) => {
            body.push_str(&format!(",\"startIndex\":{start_index}"));
        }
        Standing::Cursors { previous, next } => {
            // Cursors are base64 text and need no escaping.
            for (name, cursor) in [("previousCursor", previous), ("nextCursor", next)] {
                if let Some(cursor) = cursor {
                    body.push_str(&format!(",\"{name}\":\"{cursor}\""));
                }
            }
        }
    }
    body.push_str(",\"Resources\":[");
    for (at, resource) in resources.iter().enumerate() {
        if at > 0 {
            body.push(',');
        }
        body.push_str(resource);
    }
    body.push_str("]}");
    body
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filter(query: &str) -> String {
        ListRequest::parse(query).unwrap().filter.unwrap()
    }

    #[test]
    fn blanks_and_pluses() {
        assert_eq!(
            filter("filter=userName+eq+%22a%2Bb%40x.com%22&"),
            "userName eq \"a+b@x.com\""
        );
        assert_eq!(
            filter("filter=userName%20eq%20%22a+b&"),
            "userName eq \"a+b"
        );
        assert_eq!(filter("?&Filter=id%20pr&x"), "id pr");
    }

    #[test]
    fn rfc7644_3_4_2_4_numbers_out_of_range() {
        let page = |query: &str| ListRequest::parse(query).map(|r| (r.start_index, r.count));
        assert_eq!(page(""), Ok((1, 100)));
        assert_eq!(page("startIndex=0&count=-1"), Ok((1, 0)));
        assert_eq!(page("startindex=-5&COUNT=5"), Ok((1, 5)));
        assert_eq!(
            page("startIndex=101&count=99999999999999999999"),
            Ok((101, 1000))
        );
        assert_eq!(page("startIndex=&count="), Ok((1, 100)));
        assert_eq!(page("aadOptscim062020"), Ok((1, 100)));
        assert_eq!(page("startIndex=x"), Err(QueryError::StartIndex));
        assert_eq!(page("count=1.5"), Err(QueryError::Count));
        assert_eq!(page("filter=%ff"), Err(QueryError::FilterEncoding));
        assert_eq!(page("filter=%00"), Err(QueryError::FilterEncoding));
        assert_eq!(page("cursor=%00"), Err(QueryError::Encoding));
    }

    #[test]
    fn the_response_is_json_with_integers() {
        let body = list_response(3, &Standing::StartIndex(2), &["{}".into(), "{}".into()]);
        let body: Value = serde_json::from_str(&body).unwrap();
        assert_eq!(body["totalResults"], 3);
        assert_eq!(body["startIndex"], 2);
        assert_eq!(body["itemsPerPage"], 2);
        assert_eq!(body["Resources"].as_array().unwrap().len(), 2);
    }
}
