//! Filters: the grammar of RFC 7644 section 3.4.2.2, resolved against a schema while it is
//! parsed, and their evaluation.
//!
//! A filter is a postfix program: it is built, run and dropped without recursion, whatever its
//! nesting. Names and operators have no case; a literal may stand without quotes, because Entra,
//! PingFederate and authentik send it so. What cannot be read or names no attribute is an error,
//! never "everybody".

use serde_json::{Map, Value};

use super::attribute::boolean;
use super::path::is_name;
use super::schema::{Attribute, AttributeType, Located, ResourceSchema, Returned};
use super::tolerance::{Notes, Tolerance};
use super::{datetime, text};

/// Longest filter, in bytes.
pub const MAX_FILTER_BYTES: usize = 8 * 1024;
/// Most comparisons in one filter.
pub const MAX_TERMS: usize = 100;
/// Deepest nesting of parentheses.
pub const MAX_DEPTH: usize = 32;

/// A filter that can be read, over attributes that exist, comparing what can be compared.
#[derive(Clone, Debug, PartialEq)]
pub struct Filter {
    steps: Vec<Step>,
}

/// One step of the postfix program.
#[derive(Clone, Debug, PartialEq)]
pub enum Step {
    /// Pushes whether an attribute fits.
    Test(Test),
    /// Pushes whether an element of a multi-valued attribute fits a filter of its own: a value
    /// path, `emails[type eq "work" and value co "@x.com"]`.
    AnyElement(Target, Filter),
    /// Replaces the last result with its opposite.
    Not,
    /// Replaces the last two with their conjunction.
    And,
    /// Replaces the last two with their disjunction.
    Or,
}

/// An attribute, an operator and what to compare with.
#[derive(Clone, Debug, PartialEq)]
pub struct Test {
    /// What is compared.
    pub target: Target,
    /// How.
    pub operator: Operator,
    /// With what; [`Operand::Null`] for `pr`.
    pub operand: Operand,
}

/// Canonical names of what is compared.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// URN of the extension that the attribute belongs to.
    pub extension: Option<String>,
    /// The attribute. Empty in a filter over elements that are no objects.
    pub attribute: String,
    /// The sub-attribute.
    pub sub_attribute: Option<String>,
}

/// The operators of RFC 7644 table 3.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operator {
    /// Equal.
    Eq,
    /// Not equal; also true where there is no value.
    Ne,
    /// Contains.
    Co,
    /// Starts with.
    Sw,
    /// Ends with.
    Ew,
    /// Present.
    Pr,
    /// Greater than.
    Gt,
    /// Greater than or equal.
    Ge,
    /// Less than.
    Lt,
    /// Less than or equal.
    Le,
}

/// A literal, read by the type of the attribute that it is compared with.
#[derive(Clone, Debug, PartialEq)]
pub enum Operand {
    /// Text.
    Text {
        /// As it was sent.
        raw: String,
        /// What is compared: the raw text, or its caseless key.
        key: String,
        /// Whether case counts.
        exact: bool,
    },
    /// A boolean.
    Boolean(bool),
    /// A number.
    Number(f64),
    /// A moment.
    Moment(jiff::Timestamp),
    /// No value.
    Null,
}

/// Why a filter is not taken. No variant carries any of its text but attribute names.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FilterError {
    /// Over [`MAX_FILTER_BYTES`].
    #[error("A filter may have at most 8192 bytes.")]
    TooLong,
    /// Over [`MAX_TERMS`].
    #[error("A filter may have at most 100 comparisons.")]
    TooManyTerms,
    /// Over [`MAX_DEPTH`].
    #[error("A filter may nest at most 32 parentheses.")]
    TooDeep,
    /// It stops where something must follow.
    #[error("The filter ends where {0} must follow.")]
    Ends(&'static str),
    /// Something else stands where this must.
    #[error("The filter has no {expected} at character {at}.")]
    Expected {
        /// What should stand there.
        expected: &'static str,
        /// Where, in characters from 1.
        at: usize,
    },
    /// No such attribute. The name is cut to what an attribute name can be.
    #[error("The filter names an attribute that the schema does not have, at character {at}.")]
    UnknownAttribute {
        /// Where, in characters from 1.
        at: usize,
    },
    /// The attribute's type cannot be compared so.
    #[error("'{attribute}' cannot be compared with this operator.")]
    Operator {
        /// The attribute's canonical name.
        attribute: String,
    },
    /// The literal does not fit the attribute's type.
    #[error("'{attribute}' must be compared with {expected}.")]
    Literal {
        /// The attribute's canonical name.
        attribute: String,
        /// What it is compared with.
        expected: &'static str,
    },
    /// The attribute is never shown, so nothing may be learned of it.
    #[error("'{attribute}' cannot be used in a filter.")]
    Sensitive {
        /// The attribute's canonical name.
        attribute: String,
    },
}

impl Filter {
    /// Parses a filter over resources of a type.
    ///
    /// # Errors
    /// [`FilterError`], for a 400 `invalidFilter`.
    pub fn parse(schema: &ResourceSchema, text: &str) -> Result<Self, FilterError> {
        Self::parse_noting(schema, text, &mut Notes::default())
    }

    /// The same, and notes what is tolerated.
    ///
    /// # Errors
    /// As [`Self::parse`].
    pub fn parse_noting(
        schema: &ResourceSchema,
        text: &str,
        notes: &mut Notes,
    ) -> Result<Self, FilterError> {
        Parser::run(Names::Resource(schema), text, notes)
    }

    /// Parses the filter of a value path, over elements of a multi-valued attribute.
    ///
    /// # Errors
    /// [`FilterError`], for a 400 `invalidFilter` or `invalidPath`.
    pub fn parse_for_elements(attribute: &Attribute, text: &str) -> Result<Self, FilterError> {
        Parser::run(Names::Elements(attribute), text, &mut Notes::default())
    }

    /// The program, in the order in which it runs.
    #[must_use]
    pub fn steps(&self) -> &[Step] {
        &self.steps
    }

    /// The texts that a sub-attribute may have, if the filter of a value path says nothing but
    /// that: `value eq "a" or value eq "b"`.
    #[must_use]
    pub fn alternatives(&self, sub_attribute: &str) -> Option<Vec<&str>> {
        let mut texts = Vec::new();
        for step in &self.steps {
            match step {
                Step::Or => {}
                Step::Test(Test {
                    target,
                    operator: Operator::Eq,
                    operand: Operand::Text { raw, .. },
                }) if target.attribute == sub_attribute => {
                    texts.push(raw.as_str());
                }
                _ => return None,
            }
        }
        Some(texts)
    }

    /// Whether an attribute is compared: what is derived at a cost is derived only then.
    #[must_use]
    pub fn mentions(&self, attribute: &str) -> bool {
        self.steps.iter().any(|step| match step {
            Step::Test(Test { target, .. }) | Step::AnyElement(target, _) => {
                target.extension.is_none() && target.attribute == attribute
            }
            Step::Not | Step::And | Step::Or => false,
        })
    }

    /// Whether a resource fits. `resource` is the tree that a client sees.
    #[must_use]
    pub fn matches(&self, resource: &Map<String, Value>) -> bool {
        self.run(resource, |target, filter| {
            target
                .elements(resource)
                .iter()
                .any(|element| filter.matches_element(element))
        })
    }

    fn run(
        &self,
        resource: &Map<String, Value>,
        any_element: impl Fn(&Target, &Self) -> bool,
    ) -> bool {
        // One bit a pending result: a program of at most 100 terms never holds more.
        let mut results: u128 = 0;
        for step in &self.steps {
            results = match step {
                Step::Test(test) => results << 1 | u128::from(test.matches(resource)),
                Step::AnyElement(target, filter) => {
                    results << 1 | u128::from(any_element(target, filter))
                }
                Step::Not => results ^ 1,
                Step::And => results >> 2 << 1 | (results & results >> 1 & 1),
                Step::Or => results >> 2 << 1 | ((results | results >> 1) & 1),
            };
        }
        results & 1 == 1
    }

    /// Whether an element of a multi-valued attribute fits the filter of a value path.
    #[must_use]
    pub fn matches_element(&self, element: &Value) -> bool {
        element
            .as_object()
            .is_some_and(|element| self.run(element, |_, _| false))
    }

    /// What an element must hold to fit, if the filter says nothing but that: equality terms
    /// joined by `and`. From these Entra expects a missing element to be made.
    #[must_use]
    pub fn equality_terms(&self) -> Option<Map<String, Value>> {
        let mut terms = Map::new();
        for step in &self.steps {
            match step {
                Step::And => {}
                Step::Test(Test {
                    target,
                    operator: Operator::Eq,
                    operand,
                }) => {
                    let value = match operand {
                        Operand::Text { raw, .. } => Value::String(raw.clone()),
                        Operand::Boolean(value) => Value::Bool(*value),
                        Operand::Number(_) | Operand::Moment(_) | Operand::Null => return None,
                    };
                    if terms.insert(target.attribute.clone(), value).is_some() {
                        return None;
                    }
                }
                _ => return None,
            }
        }
        Some(terms)
    }
}

/// Longest shape of a filter, in bytes.
const LONGEST_SHAPE: usize = 200;

/// A filter without its values: `userName eq ?`. Of a text that is no filter, something like it:
/// what stands between quotes, and what stands behind an operator, is never in it.
#[must_use]
pub fn shape(filter: &str) -> Box<str> {
    let mut shape = String::with_capacity(filter.len().min(LONGEST_SHAPE));
    let mut rest = filter.trim();
    let mut is_value = false;
    while let Some(first) = rest.chars().next() {
        if shape.len() >= LONGEST_SHAPE {
            break;
        }
        let length = match first {
            '"' => {
                shape.push('?');
                is_value = false;
                end_of_string(rest)
            }
            '(' | ')' | '[' | ']' => {
                shape.push(first);
                1
            }
            _ if first.is_whitespace() => {
                if !shape.ends_with(' ') {
                    shape.push(' ');
                }
                first.len_utf8()
            }
            _ => {
                let ends = |c: char| c.is_whitespace() || matches!(c, '(' | ')' | '[' | ']' | '"');
                let length = rest.find(ends).unwrap_or(rest.len());
                let word = rest.get(..length).unwrap_or_default();
                let is_name = word.len() <= MAX_NAME_BYTES && !is_value;
                shape.push_str(if is_name { word } else { "?" });
                is_value = !is_value && Operator::parse(word).is_some_and(|it| it != Operator::Pr);
                length
            }
        };
        rest = rest.get(length..).unwrap_or_default();
    }
    shape.into()
}

/// Longest word of a shape, in bytes: an attribute path with a URN.
const MAX_NAME_BYTES: usize = 120;

/// Where a quoted text at the beginning ends, in bytes.
fn end_of_string(text: &str) -> usize {
    let mut escaped = false;
    let end = text.bytes().skip(1).position(|byte| {
        let ends = byte == b'"' && !escaped;
        escaped = byte == b'\\' && !escaped;
        ends
    });
    end.map_or(text.len(), |end| end + 2)
}

impl Target {
    /// The values that the target names in a resource.
    fn values<'r>(&'r self, resource: &'r Map<String, Value>) -> impl Iterator<Item = &'r Value> {
        self.elements(resource)
            .iter()
            .filter_map(|element| match &self.sub_attribute {
                None => Some(element),
                Some(name) => element.get(name),
            })
    }

    /// The attribute's elements: those of its list, or the one value that it is.
    fn elements<'r>(&self, resource: &'r Map<String, Value>) -> &'r [Value] {
        let home = match &self.extension {
            None => Some(resource),
            Some(urn) => resource.get(urn).and_then(Value::as_object),
        };
        match home.and_then(|home| home.get(&self.attribute)) {
            None => &[],
            Some(Value::Array(elements)) => elements,
            Some(one) => std::slice::from_ref(one),
        }
    }
}

impl Test {
    fn matches(&self, resource: &Map<String, Value>) -> bool {
        let mut values = self.target.values(resource);
        match (self.operator, &self.operand) {
            (Operator::Pr, _) => values.any(is_present),
            (Operator::Eq, Operand::Null) => !values.any(is_present),
            (Operator::Ne, Operand::Null) => values.any(is_present),
            (Operator::Ne, operand) => !values.any(|v| operand.compare(v, Operator::Eq)),
            (operator, operand) => values.any(|v| operand.compare(v, operator)),
        }
    }
}

fn is_present(value: &Value) -> bool {
    match value {
        Value::Null => false,
        Value::Array(elements) => !elements.is_empty(),
        Value::Object(object) => !object.is_empty(),
        Value::String(text) => !text.is_empty(),
        Value::Bool(_) | Value::Number(_) => true,
    }
}

impl Operand {
    fn compare(&self, value: &Value, operator: Operator) -> bool {
        let ordering = match (self, value) {
            (Self::Text { key, exact, .. }, Value::String(value)) => {
                let value = if *exact {
                    value.into()
                } else {
                    text::key(value)
                };
                match operator {
                    Operator::Co => return value.contains(key.as_str()),
                    Operator::Sw => return value.starts_with(key.as_str()),
                    Operator::Ew => return value.ends_with(key.as_str()),
                    _ => value.as_ref().cmp(key.as_str()),
                }
            }
            (Self::Boolean(operand), Value::Bool(value)) => value.cmp(operand),
            (Self::Number(operand), Value::Number(value)) => {
                match value.as_f64().and_then(|value| value.partial_cmp(operand)) {
                    Some(ordering) => ordering,
                    None => return false,
                }
            }
            (Self::Moment(operand), Value::String(value)) => match datetime::parse(value) {
                Some(value) => value.cmp(operand),
                None => return false,
            },
            _ => return false,
        };
        match operator {
            Operator::Eq => ordering.is_eq(),
            Operator::Gt => ordering.is_gt(),
            Operator::Ge => ordering.is_ge(),
            Operator::Lt => ordering.is_lt(),
            Operator::Le => ordering.is_le(),
            Operator::Ne | Operator::Co | Operator::Sw | Operator::Ew | Operator::Pr => false,
        }
    }
}

impl Operator {
    fn parse(word: &str) -> Option<Self> {
        const NAMES: [(&str, Operator); 10] = [
            ("eq", Operator::Eq),
            ("ne", Operator::Ne),
            ("co", Operator::Co),
            ("sw", Operator::Sw),
            ("ew", Operator::Ew),
            ("pr", Operator::Pr),
            ("gt", Operator::Gt),
            ("ge", Operator::Ge),
            ("lt", Operator::Lt),
            ("le", Operator::Le),
        ];
        NAMES
            .iter()
            .find(|(name, _)| name.eq_ignore_ascii_case(word))
            .map(|(_, operator)| *operator)
    }
}

/// Where the names in a filter are looked up.
#[derive(Clone, Copy)]
enum Names<'s> {
    Resource(&'s ResourceSchema),
    Elements(&'s Attribute),
}

/// What an attribute name in a filter stands for.
struct Named<'s> {
    extension: Option<&'s str>,
    attribute: &'s Attribute,
    sub_attribute: Option<&'s Attribute>,
    /// `workEmail`: only elements of this type.
    of_type: Option<&'static str>,
}

impl<'s> Named<'s> {
    /// The attribute whose type decides how a comparison is read.
    fn compared(&self) -> &'s Attribute {
        self.sub_attribute.unwrap_or(self.attribute)
    }
}

impl<'s> Names<'s> {
    fn find(self, path: &str) -> Option<Named<'s>> {
        match self {
            Self::Elements(attribute) => {
                let sub_attribute = attribute.sub_attribute(path)?;
                Some(Named {
                    extension: None,
                    attribute: sub_attribute,
                    sub_attribute: None,
                    of_type: None,
                })
            }
            Self::Resource(schema) => {
                find_in_schema(schema, path).or_else(|| find_alias(schema, path))
            }
        }
    }
}

fn find_in_schema<'s>(schema: &'s ResourceSchema, path: &str) -> Option<Named<'s>> {
    let from_extension = schema
        .extensions
        .iter()
        .find_map(|extension| Some((extension, extension.strip_urn(path)?)));
    let (located_in, path) = match from_extension {
        Some((extension, rest)) => (Some(extension), rest.strip_prefix([':', '.'])?),
        None => match schema.core.strip_urn(path) {
            Some(rest) => (None, rest.strip_prefix([':', '.'])?),
            None => (None, path),
        },
    };
    let (name, sub_name) = match path.split_once('.') {
        Some((name, sub_name)) => (name, Some(sub_name)),
        None => (path, None),
    };
    let Located {
        extension,
        attribute,
    } = match located_in {
        Some(extension) => Located {
            extension: Some(extension),
            attribute: extension.attribute(name)?,
        },
        None => schema.locate(name)?,
    };
    let sub_attribute = match sub_name {
        Some(name) => Some(attribute.sub_attribute(name)?),
        None => None,
    };
    Some(Named {
        extension: extension.map(|e| e.urn.as_str()),
        attribute,
        sub_attribute,
        of_type: None,
    })
}

/// `email` and `workEmail` are what PingOne's console suggests for the work e-mail address.
fn find_alias<'s>(schema: &'s ResourceSchema, path: &str) -> Option<Named<'s>> {
    let of_type = if path.eq_ignore_ascii_case("workEmail") {
        Some("work")
    } else if path.eq_ignore_ascii_case("email") {
        None
    } else {
        return None;
    };
    let attribute = schema.core.attribute("emails")?;
    Some(Named {
        extension: None,
        attribute,
        sub_attribute: attribute.value(),
        of_type,
    })
}

/// What waits on the operator stack.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Pending {
    Paren { negated: bool },
    And,
    Or,
}

struct Parser<'s, 't, 'n> {
    names: Names<'s>,
    notes: &'n mut Notes,
    text: &'t str,
    /// Byte offset of what is not read yet.
    at: usize,
    terms: usize,
    steps: Vec<Step>,
    pending: Vec<Pending>,
}

impl<'s, 't, 'n> Parser<'s, 't, 'n> {
    fn run(names: Names<'s>, text: &'t str, notes: &'n mut Notes) -> Result<Filter, FilterError> {
        if text.len() > MAX_FILTER_BYTES {
            return Err(FilterError::TooLong);
        }
        let mut parser = Parser {
            names,
            notes,
            text,
            at: 0,
            terms: 0,
            steps: Vec::new(),
            pending: Vec::new(),
        };
        parser.expression()?;
        Ok(Filter {
            steps: parser.steps,
        })
    }

    /// The whole filter: operands and the operators between them, by two stacks (shunting yard).
    fn expression(&mut self) -> Result<(), FilterError> {
        loop {
            self.operand()?;
            loop {
                self.skip_blanks();
                if self.rest().is_empty() {
                    return self.finish();
                }
                if !self.rest().starts_with(')') {
                    break;
                }
                self.close()?;
            }
            let at = self.at;
            match self.word() {
                word if word.eq_ignore_ascii_case("and") => self.join(Pending::And),
                word if word.eq_ignore_ascii_case("or") => self.join(Pending::Or),
                _ => return Err(self.expected("'and' or 'or'", at)),
            }
        }
    }

    /// Opening parentheses, with `not` before them, and then one comparison.
    fn operand(&mut self) -> Result<(), FilterError> {
        loop {
            self.skip_blanks();
            let start = self.at;
            if self.eat('(') {
                self.open(false)?;
                continue;
            }
            let name = self.name();
            if name.eq_ignore_ascii_case("not") {
                self.skip_blanks();
                if self.eat('(') {
                    self.open(true)?;
                    continue;
                }
                self.at = start;
                self.name();
            }
            return self.comparison(name, start);
        }
    }

    fn open(&mut self, negated: bool) -> Result<(), FilterError> {
        let open = self
            .pending
            .iter()
            .filter(|p| matches!(p, Pending::Paren { .. }))
            .count();
        if open == MAX_DEPTH {
            return Err(FilterError::TooDeep);
        }
        self.pending.push(Pending::Paren { negated });
        Ok(())
    }

    fn close(&mut self) -> Result<(), FilterError> {
        let at = self.at;
        self.eat(')');
        loop {
            match self.pending.pop() {
                Some(Pending::Paren { negated }) => {
                    if negated {
                        self.steps.push(Step::Not);
                    }
                    return Ok(());
                }
                Some(Pending::And) => self.steps.push(Step::And),
                Some(Pending::Or) => self.steps.push(Step::Or),
                None => return Err(self.expected("'(' for the ')'", at)),
            }
        }
    }

    /// `and` binds tighter than `or`; both from the left.
    fn join(&mut self, operator: Pending) {
        while let Some(&top) = self.pending.last() {
            match top {
                Pending::And => self.steps.push(Step::And),
                Pending::Or if operator == Pending::Or => self.steps.push(Step::Or),
                Pending::Or | Pending::Paren { .. } => break,
            }
            self.pending.pop();
        }
        self.pending.push(operator);
    }

    fn finish(&mut self) -> Result<(), FilterError> {
        while let Some(pending) = self.pending.pop() {
            match pending {
                Pending::And => self.steps.push(Step::And),
                Pending::Or => self.steps.push(Step::Or),
                Pending::Paren { .. } => return Err(FilterError::Ends("')'")),
            }
        }
        Ok(())
    }

    fn comparison(&mut self, name: &str, start: usize) -> Result<(), FilterError> {
        if name.is_empty() {
            return Err(self.expected("attribute name", start));
        }
        let named = self.names.find(name).ok_or_else(|| {
            // A word that can be no name at all is a matter of grammar.
            let last = name.rsplit(':').next().unwrap_or(name);
            if last.split('.').all(is_name) {
                FilterError::UnknownAttribute {
                    at: self.column(start),
                }
            } else {
                self.expected("attribute name", start)
            }
        })?;
        let is_alias = ["email", "workEmail"]
            .iter()
            .any(|alias| alias.eq_ignore_ascii_case(name));
        if is_alias && named.attribute.name == "emails" {
            self.notes.note_of(Tolerance::Alias, name);
        }
        if self.rest().starts_with('[') {
            return self.value_path(&named);
        }
        let (named, operator, operand) = self.operator_and_operand(named)?;
        self.push_test(&named, operator, operand)
    }

    /// `emails[type eq "work"]`, and the form `emails[type eq "work"].value eq "x"` that
    /// administrators type into PingOne.
    fn value_path(&mut self, named: &Named<'s>) -> Result<(), FilterError> {
        let start = self.at;
        let attribute = named.attribute;
        let can = matches!(self.names, Names::Resource(_))
            && attribute.multi_valued
            && named.sub_attribute.is_none()
            && !attribute.sub_attributes.is_empty();
        if !can {
            return Err(FilterError::Operator {
                attribute: attribute.name.clone(),
            });
        }
        let inner = self.bracketed().ok_or(FilterError::Ends("']'"))?;
        let mut filter = Parser::run(Names::Elements(attribute), inner, self.notes)?;
        self.count_terms(filter.steps.len())?;
        if self.eat('.') {
            let name = self.name();
            let sub_attribute =
                attribute
                    .sub_attribute(name)
                    .ok_or(FilterError::UnknownAttribute {
                        at: self.column(start),
                    })?;
            let element = Named {
                extension: None,
                attribute: sub_attribute,
                sub_attribute: None,
                of_type: None,
            };
            let (element, operator, operand) = self.operator_and_operand(element)?;
            filter.steps.push(Step::Test(Test {
                target: target(&element),
                operator,
                operand,
            }));
            filter.steps.push(Step::And);
        }
        self.steps.push(Step::AnyElement(target(named), filter));
        Ok(())
    }

    fn push_test(
        &mut self,
        named: &Named<'s>,
        operator: Operator,
        operand: Operand,
    ) -> Result<(), FilterError> {
        self.count_terms(1)?;
        let Some(of_type) = named.of_type else {
            self.steps.push(Step::Test(Test {
                target: target(named),
                operator,
                operand,
            }));
            return Ok(());
        };
        // Like every other attribute, it is other than a value where it has none, and is null
        // where it has none.
        let (operator, operand, negated) = match (operator, operand) {
            (Operator::Eq, Operand::Null) => (Operator::Pr, Operand::Null, true),
            (Operator::Ne, Operand::Null) => (Operator::Pr, Operand::Null, false),
            (Operator::Ne, operand) => (Operator::Eq, operand, true),
            (operator, operand) => (operator, operand, false),
        };
        let part = |name: &str| Target {
            extension: None,
            attribute: name.to_owned(),
            sub_attribute: None,
        };
        let of_type = Operand::Text {
            raw: of_type.to_owned(),
            key: of_type.to_owned(),
            exact: false,
        };
        let steps = vec![
            Step::Test(Test {
                target: part("type"),
                operator: Operator::Eq,
                operand: of_type,
            }),
            Step::Test(Test {
                target: part("value"),
                operator,
                operand,
            }),
            Step::And,
        ];
        let elements = Target {
            sub_attribute: None,
            ..target(named)
        };
        self.steps
            .push(Step::AnyElement(elements, Filter { steps }));
        if negated {
            self.steps.push(Step::Not);
        }
        Ok(())
    }

    fn count_terms(&mut self, more: usize) -> Result<(), FilterError> {
        self.terms += more;
        if self.terms > MAX_TERMS {
            Err(FilterError::TooManyTerms)
        } else {
            Ok(())
        }
    }

    /// What follows a name. An object that is compared as a plain value means its `value`
    /// (`emails eq "a@x.com"`), so what is named may become narrower.
    fn operator_and_operand(
        &mut self,
        mut named: Named<'s>,
    ) -> Result<(Named<'s>, Operator, Operand), FilterError> {
        if named.compared().returned == Returned::Never {
            return Err(FilterError::Sensitive {
                attribute: named.attribute.name.clone(),
            });
        }
        self.skip_blanks();
        let start = self.at;
        let operator = match self.word() {
            "" if self.rest().is_empty() => return Err(FilterError::Ends("an operator")),
            word => Operator::parse(word).ok_or_else(|| self.expected("operator", start))?,
        };
        if operator == Operator::Pr {
            return Ok((named, operator, Operand::Null));
        }
        if named.compared().kind == AttributeType::Complex {
            named.sub_attribute = named.attribute.value();
        }
        let operand = self.literal()?.read(named.compared(), operator)?;
        Ok((named, operator, operand))
    }

    /// A JSON string, or a word without quotes.
    fn literal(&mut self) -> Result<Literal, FilterError> {
        self.skip_blanks();
        if self.rest().is_empty() {
            return Err(FilterError::Ends("a value"));
        }
        let start = self.at;
        if !self.rest().starts_with('"') {
            let word = self.take_while(|c| !c.is_whitespace() && c != ')' && c != ']');
            if word.is_empty() || word.contains('\0') {
                return Err(self.expected("value", start));
            }
            let is_json = matches!(word, "true" | "false" | "null") || word.parse::<f64>().is_ok();
            if !is_json {
                self.notes.note(Tolerance::BareLiteral);
            }
            return Ok(Literal {
                text: word.to_owned(),
                quoted: false,
            });
        }
        let mut strings = serde_json::Deserializer::from_str(self.rest()).into_iter::<String>();
        let text = match strings.next() {
            Some(Ok(text)) if !text.contains('\0') => text,
            Some(_) => return Err(self.expected("well-formed string", start)),
            None => return Err(FilterError::Ends("a value")),
        };
        self.at += strings.byte_offset();
        Ok(Literal { text, quoted: true })
    }

    fn rest(&self) -> &'t str {
        self.text.get(self.at..).unwrap_or("")
    }

    fn skip_blanks(&mut self) {
        self.take_while(char::is_whitespace);
    }

    fn eat(&mut self, c: char) -> bool {
        let there = self.rest().starts_with(c);
        if there {
            self.at += c.len_utf8();
        }
        there
    }

    fn take_while(&mut self, fits: impl Fn(char) -> bool) -> &'t str {
        let rest = self.rest();
        let end = rest.find(|c: char| !fits(c)).unwrap_or(rest.len());
        self.at += end;
        rest.get(..end).unwrap_or("")
    }

    fn word(&mut self) -> &'t str {
        self.take_while(|c| c.is_ascii_alphabetic())
    }

    /// An attribute path without brackets; whether it is one is decided by whoever looks it up.
    fn name(&mut self) -> &'t str {
        self.take_while(|c| !c.is_whitespace() && !matches!(c, '(' | ')' | '[' | ']' | '"'))
    }

    /// What stands between the bracket that is next and its partner.
    fn bracketed(&mut self) -> Option<&'t str> {
        self.eat('[');
        let start = self.at;
        let mut quoted = false;
        let mut escaped = false;
        for (offset, c) in self.rest().char_indices() {
            match c {
                _ if escaped => escaped = false,
                '\\' if quoted => escaped = true,
                '"' => quoted = !quoted,
                ']' if !quoted => {
                    self.at = start + offset + 1;
                    return self.text.get(start..start + offset);
                }
                _ => {}
            }
        }
        None
    }

    fn expected(&self, expected: &'static str, at: usize) -> FilterError {
        FilterError::Expected {
            expected,
            at: self.column(at),
        }
    }

    fn column(&self, at: usize) -> usize {
        self.text
            .get(..at)
            .map_or(0, |before| before.chars().count())
            + 1
    }
}

fn target(named: &Named<'_>) -> Target {
    Target {
        extension: named.extension.map(str::to_owned),
        attribute: named.attribute.name.clone(),
        sub_attribute: named
            .sub_attribute
            .map(|sub_attribute| sub_attribute.name.clone()),
    }
}

struct Literal {
    text: String,
    quoted: bool,
}

impl Literal {
    fn read(self, attribute: &Attribute, operator: Operator) -> Result<Operand, FilterError> {
        let name = || attribute.name.clone();
        let ordered = matches!(
            operator,
            Operator::Gt | Operator::Ge | Operator::Lt | Operator::Le
        );
        let partial = matches!(operator, Operator::Co | Operator::Sw | Operator::Ew);
        let textual = matches!(
            attribute.kind,
            AttributeType::String | AttributeType::Reference | AttributeType::Binary
        );
        let unfit = partial && !textual
            || ordered
                && matches!(
                    attribute.kind,
                    AttributeType::Boolean | AttributeType::Binary
                );
        if unfit {
            return Err(FilterError::Operator { attribute: name() });
        }
        if !self.quoted && self.text == "null" {
            let equality = matches!(operator, Operator::Eq | Operator::Ne);
            return if equality {
                Ok(Operand::Null)
            } else {
                Err(FilterError::Operator { attribute: name() })
            };
        }
        let wrong = |expected| FilterError::Literal {
            attribute: name(),
            expected,
        };
        match attribute.kind {
            AttributeType::Boolean => boolean(&self.text)
                .map(Operand::Boolean)
                .ok_or_else(|| wrong("true or false")),
            AttributeType::Integer | AttributeType::Decimal => {
                let number = self.text.parse::<f64>().ok().filter(|n| n.is_finite());
                number.map(Operand::Number).ok_or_else(|| wrong("a number"))
            }
            AttributeType::DateTime => datetime::parse(&self.text)
                .map(Operand::Moment)
                .ok_or_else(|| wrong("a date and time such as \"2026-01-31T09:30:00Z\"")),
            AttributeType::String | AttributeType::Reference | AttributeType::Binary => {
                let exact = attribute.case_exact;
                let key = if exact {
                    self.text.clone()
                } else {
                    text::key(&self.text).into_owned()
                };
                Ok(Operand::Text {
                    raw: self.text,
                    key,
                    exact,
                })
            }
            AttributeType::Complex => Err(FilterError::Operator { attribute: name() }),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::super::schema::USER;
    use super::*;

    fn bjensen() -> Map<String, Value> {
        let user = json!({
            "schemas": ["urn:ietf:params:scim:schemas:core:2.0:User", "urn:ietf:params:scim:schemas:extension:enterprise:2.0:User"],
            "id": "2819c223-7f76-453a-919d-413861904646",
            "externalId": "bJensen",
            "userName": "BJensen@example.com",
            "name": {"familyName": "O'Malley", "givenName": "Barbara"},
            "title": "Vice \"President\"",
            "active": true,
            "emails": [
                {"value": "bjensen@example.com", "type": "work", "primary": true},
                {"value": "babs@example.org", "type": "home"}
            ],
            "meta": {"resourceType": "User", "lastModified": "2011-05-13T04:42:34Z"},
            "urn:ietf:params:scim:schemas:extension:enterprise:2.0:User": {
                "employeeNumber": "701984", "manager": {"value": "26118915"}
            }
        });
        user.as_object().unwrap().clone()
    }

    fn fits(filter: &str) -> bool {
        Filter::parse(&USER, filter)
            .unwrap_or_else(|e| panic!("{filter}: {e}"))
            .matches(&bjensen())
    }

    #[test]
    fn rfc7644_3_4_2_2_examples() {
        for (filter, expected) in [
            ("userName eq \"bjensen@EXAMPLE.com\"", true),
            ("name.familyName co \"O'Malley\"", true),
            ("userName sw \"J\"", false),
            (
                "urn:ietf:params:scim:schemas:core:2.0:User:userName sw \"B\"",
                true,
            ),
            ("title pr", true),
            ("meta.lastModified gt \"2011-05-13T04:42:34Z\"", false),
            ("meta.lastModified ge \"2011-05-13T04:42:34Z\"", true),
            ("meta.lastModified lt \"2011-05-13T06:42:35+02:00\"", true),
            ("meta.lastModified le \"2011-05-13T04:42:33Z\"", false),
            ("title pr and userType eq \"Employee\"", false),
            ("title pr or userType eq \"Intern\"", true),
            (
                "schemas eq \"urn:ietf:params:scim:schemas:extension:enterprise:2.0:User\"",
                true,
            ),
            (
                "userType eq \"Employee\" and (emails co \"example.com\" or emails.value co \"example.org\")",
                false,
            ),
            (
                "userType ne \"Employee\" and not (emails co \"example.net\" or emails.value co \"example.gov\")",
                true,
            ),
            ("emails[type eq \"work\"]", true),
            (
                "userType ne \"Employee\" and emails[type eq \"work\" and value co \"@example.com\"]",
                true,
            ),
            (
                "emails[type eq \"home\" and value co \"@example.com\"] or ims[type eq \"xmpp\" and value co \"@foo.com\"]",
                false,
            ),
        ] {
            assert_eq!(fits(filter), expected, "{filter}");
        }
    }

    #[test]
    fn what_clients_really_send() {
        for (filter, expected) in [
            ("username Eq \"bjensen@example.com\"", true),
            ("email Co \"example.org\"", true),
            ("email eq babs@example.org", true),
            ("workEmail Eq \"bjensen@example.com\"", true),
            ("workEmail Eq \"babs@example.org\"", false),
            ("workEmail ne \"babs@example.org\"", true),
            ("workEmail ne \"bjensen@example.com\"", false),
            ("workEmail eq null", false),
            ("workEmail ne null", true),
            ("emails eq BABS@example.org", true),
            ("emails.value Eq \"babs@example.org\"", true),
            (
                "emails[type Eq \"work\" And value Eq \"bjensen@example.com\"]",
                true,
            ),
            (
                "emails[type eq \"work\"].value eq \"bjensen@example.com\"",
                true,
            ),
            (
                "emails[type eq \"work\"].value eq \"babs@example.org\"",
                false,
            ),
            ("externalId eq bJensen", true),
            ("externalId eq bjensen", false),
            (
                "id eq 2819c223-7f76-453a-919d-413861904646 and manager eq 26118915",
                true,
            ),
            (
                "name.FamilyName eq Employee and (emails.Value co example.com or emails.Value co example.org)",
                false,
            ),
            (
                "(ActiVe eq true) and (meta.lastModified ge \"2011-01-01T00:00:00.0000000Z\" and meta.lastmodified le \"2012-01-01T00:00:00Z\")",
                true,
            ),
            ("active eq \"True\"", true),
            ("active eq False", false),
            ("emails[primary eq \"True\"].type eq work", true),
            (
                "urn:ietf:params:scim:schemas:extension:enterprise:2.0:User:employeeNumber eq 701984",
                true,
            ),
            ("title eq \"Vice \\\"President\\\"\"", true),
            ("nickName eq null", true),
            ("title ne null", true),
            ("not(title pr)", false),
            ("NOT (nickName pr) AND title pr", true),
        ] {
            assert_eq!(fits(filter), expected, "{filter}");
        }
    }

    #[test]
    fn and_binds_tighter_than_or() {
        assert!(fits("title pr or title pr and nickName pr"));
        assert!(!fits("(title pr or title pr) and nickName pr"));
        assert!(fits("nickName pr and nickName pr or title pr"));
        assert!(!fits("not (title pr) or nickName pr"));
        assert!(fits(
            "not (nickName pr and title pr) and (not (nickName pr))"
        ));
    }

    #[test]
    fn a_bad_filter_is_an_error_and_never_everybody() {
        for filter in [
            "",
            " ",
            "jensen",
            "userName",
            "userName eq",
            "userName eq \"",
            "userName eq \"x\" and",
            "userName xx \"x\"",
            "userName eq \"x\" userName eq \"y\"",
            "(userName pr",
            "userName pr)",
            "favouriteColour eq \"red\"",
            "name.nothing eq \"x\"",
            "name eq \"x\"",
            "active gt true",
            "active eq maybe",
            "active co \"t\"",
            "meta.lastModified gt \"yesterday\"",
            "password sw \"a\"",
            "password pr",
            "emails[",
            "emails[]",
            "emails[type eq \"work\"",
            "userName[type eq \"work\"]",
            "emails[emails[type pr]]",
            "emails[type eq \"work\"].nothing pr",
            "()",
            "not",
            "not title pr",
            "and title pr",
            "title pr and and title pr",
            "\"userName\" eq \"x\"",
            "userName eq \"\\u0000\"",
            "userName eq \"\\ud800\"",
            "urn:unknown:schema:userName eq \"x\"",
            "1 eq 1",
            "userName gt null",
        ] {
            assert!(Filter::parse(&USER, filter).is_err(), "{filter}");
        }
    }

    #[test]
    fn errors_say_where_and_echo_no_value() {
        let message = |filter: &str| Filter::parse(&USER, filter).unwrap_err().to_string();
        assert_eq!(
            message("userName is \"secret\""),
            "The filter has no operator at character 10."
        );
        assert!(message("colour eq \"secret\"").contains("character 1"));
        assert!(!message("active eq secret").contains("secret"));
    }

    #[test]
    fn bombs_are_refused() {
        let error = |filter: String| Filter::parse(&USER, &filter).unwrap_err();
        assert_eq!(
            error("title pr or ".repeat(1000) + "title pr"),
            FilterError::TooLong
        );
        assert_eq!(
            error("id pr or ".repeat(100) + "id pr"),
            FilterError::TooManyTerms
        );
        assert_eq!(error("(".repeat(33) + "id pr"), FilterError::TooDeep);
        assert_eq!(error("not(".repeat(2000)), FilterError::TooDeep);
        assert!(
            Filter::parse(&USER, &("id pr or ".repeat(99) + "id pr"))
                .unwrap()
                .matches(&bjensen())
        );
        let deep = format!("{}id pr{}", "(".repeat(32), ")".repeat(32));
        assert!(Filter::parse(&USER, &deep).unwrap().matches(&bjensen()));
    }

    #[test]
    fn a_shape_holds_no_value() {
        for (filter, expected) in [
            (r#"userName eq "a \" b""#, "userName eq ?"),
            ("userName Eq bob@x", "userName Eq ?"),
            (
                r#"emails[type eq "work" And value co "x"] and not (title pr)"#,
                "emails[type eq ? And value co ?] and not (title pr)",
            ),
            (
                "active eq true or meta.created gt 2011",
                "active eq ? or meta.created gt ?",
            ),
            (r#"userName eq "open"#, "userName eq ?"),
            ("", ""),
        ] {
            assert_eq!(&*shape(filter), expected, "{filter}");
        }
    }

    proptest! {
        #[test]
        fn no_text_breaks_the_parser(text in "\\PC{0,80}") {
            let _ = Filter::parse(&USER, &text);
        }

        #[test]
        fn no_sequence_of_tokens_breaks_parser_or_evaluator(
            tokens in prop::collection::vec(prop::sample::select(vec![
                "(", ")", "not", "and", "or", "userName", "emails", "[", "]", "eq", "pr", "co",
                "\"x\"", "x", ".value", "type", "true", " ", "active", "urn:",
            ]), 0..24)
        ) {
            if let Ok(filter) = Filter::parse(&USER, &tokens.join(" ")) {
                let _ = filter.matches(&bjensen());
            }
        }

        #[test]
        fn any_value_can_be_asked_for(value in "\\PC{1,30}") {
            let mut user = bjensen();
            user.insert("userName".into(), json!(value));
            let filter = format!("userName eq {}", json!(value));
            prop_assert!(Filter::parse(&USER, &filter).unwrap().matches(&user));
        }

        #[test]
        fn the_program_computes_the_boolean_expression(bits in prop::collection::vec(any::<bool>(), 1..20), ops in prop::collection::vec(0..4_u8, 20)) {
            // Left to right with explicit parentheses, beside a direct computation.
            let term = |b: bool| if b { "title pr" } else { "nickName pr" };
            let mut text = term(bits[0]).to_owned();
            let mut expected = bits[0];
            for (bit, op) in bits.iter().skip(1).zip(&ops) {
                (text, expected) = match op {
                    0 => (format!("({text}) and {}", term(*bit)), expected && *bit),
                    1 => (format!("({text}) or {}", term(*bit)), expected || *bit),
                    2 => (format!("not ({text}) and {}", term(*bit)), !expected && *bit),
                    _ => (format!("{} or not ({text})", term(*bit)), *bit || !expected),
                };
            }
            prop_assert_eq!(fits(&text), expected, "{}", text);
        }
    }
}
