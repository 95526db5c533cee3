//! PATCH: what a client asks to change, and how a tree changes by it (RFC 7644 section 3.5.2).
//!
//! All operations of a request apply to a copy, in order; one that fails leaves nothing changed.
//! The tolerances are those of idp-wire sections 0, 3 and 10: operations in any case, keys of a
//! path-less value that are paths themselves, value paths that make the element they miss,
//! removals by a list of values.

use serde_json::{Map, Value};

use super::attribute::{self, ValueError};
use super::document::{Tree, first_missing};
use super::path::{AttributePath, Path, PathError};
use super::schema::{Attribute, AttributeType, Mutability, ResourceSchema, Schema};
use super::tolerance::{Notes, Tolerance};

/// Most operations in one request.
pub const MAX_OPERATIONS: usize = 1000;

const TOO_MANY_OPERATIONS: PatchError =
    PatchError::Syntax("A PATCH request may have at most 1000 operations.");

/// A PATCH request, read but not yet applied.
#[derive(Clone, Debug, PartialEq)]
pub struct PatchRequest {
    pub(super) operations: Vec<Operation>,
}

#[derive(Clone, Debug, PartialEq)]
pub(super) struct Operation {
    pub(super) verb: Verb,
    pub(super) path: Option<String>,
    pub(super) value: Option<Value>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verb {
    Add,
    Replace,
    Remove,
}

/// Why a resource cannot be changed (or made) as asked.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PatchError {
    /// The body is no PATCH request.
    #[error("{0}")]
    Syntax(&'static str),
    /// A path cannot be read.
    #[error("{0}")]
    Path(#[from] PathError),
    /// A value does not fit its attribute.
    #[error("{0}")]
    Value(#[from] ValueError),
    /// The attribute is the service provider's to set.
    #[error("'{attribute}' is read-only.")]
    ReadOnly {
        /// Its canonical name.
        attribute: String,
    },
    /// A required attribute would lose its value.
    #[error("'{attribute}' is required and cannot be removed.")]
    Required {
        /// Its canonical name.
        attribute: String,
    },
    /// A required attribute has no value in a whole resource.
    #[error("'{attribute}' is required.")]
    Missing {
        /// Its canonical name.
        attribute: String,
    },
    /// Nothing fits the filter of the path, and it does not say what to make.
    #[error("No value of '{attribute}' fits the filter in the path.")]
    NoTarget {
        /// The attribute's canonical name.
        attribute: String,
    },
    /// A removal that does not say of what.
    #[error("A 'remove' operation must have a path.")]
    RemoveWithoutPath,
}

impl PatchRequest {
    /// Reads a body. Its member names have no case; `schemas` may be missing; an empty list of
    /// operations changes nothing.
    ///
    /// # Errors
    /// [`PatchError::Syntax`].
    pub fn parse(body: Map<String, Value>, notes: &mut Notes) -> Result<Self, PatchError> {
        let operations = match take(body, ["operations"]) {
            [Some(Value::Array(operations))] => operations,
            [Some(one @ Value::Object(_))] => {
                notes.note(Tolerance::OneOperation);
                vec![one]
            }
            _ => {
                return Err(PatchError::Syntax(
                    "A PATCH request must have a list 'Operations'.",
                ));
            }
        };
        if operations.len() > MAX_OPERATIONS {
            return Err(TOO_MANY_OPERATIONS);
        }
        if operations.is_empty() {
            notes.note(Tolerance::NoOperations);
        }
        let operations = operations
            .into_iter()
            .map(|operation| Operation::parse(operation, notes))
            .collect::<Result<_, _>>()?;
        Ok(Self { operations })
    }

    /// Whether it asks for nothing.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.operations.is_empty()
    }

    /// The tree as it is after all operations.
    ///
    /// # Errors
    /// [`PatchError`]; nothing is changed.
    pub fn apply(
        &self,
        schema: &ResourceSchema,
        tree: &Tree,
        notes: &mut Notes,
    ) -> Result<Tree, PatchError> {
        if self.operations.len() > MAX_OPERATIONS {
            return Err(TOO_MANY_OPERATIONS);
        }
        let mut tree = tree.clone();
        for operation in &self.operations {
            operation.apply(schema, &mut tree, notes)?;
        }
        match first_missing(schema, &tree) {
            Some(attribute) => Err(PatchError::Required {
                attribute: attribute.to_owned(),
            }),
            None => Ok(tree),
        }
    }
}

/// Takes members out of an object by their lower-case names.
fn take<const N: usize>(object: Map<String, Value>, names: [&str; N]) -> [Option<Value>; N] {
    let mut taken = [const { None }; N];
    for (name, value) in object {
        let slot = names
            .iter()
            .zip(&mut taken)
            .find(|(wanted, _)| name.eq_ignore_ascii_case(wanted));
        if let Some((_, slot)) = slot {
            *slot = Some(value);
        }
    }
    taken
}

impl Operation {
    fn parse(operation: Value, notes: &mut Notes) -> Result<Self, PatchError> {
        let Value::Object(operation) = operation else {
            return Err(PatchError::Syntax(
                "Each of the 'Operations' must be an object.",
            ));
        };
        let [verb, path, value] = take(operation, ["op", "path", "value"]);
        let said = verb.as_ref().and_then(Value::as_str);
        let verb = match said {
            Some(op) if op.eq_ignore_ascii_case("add") => Verb::Add,
            Some(op) if op.eq_ignore_ascii_case("replace") => Verb::Replace,
            Some(op) if op.eq_ignore_ascii_case("remove") => Verb::Remove,
            _ => {
                return Err(PatchError::Syntax(
                    "The 'op' of an operation must be 'add', 'replace' or 'remove'.",
                ));
            }
        };
        if let Some(said) = said.filter(|said| said.bytes().any(|b| b.is_ascii_uppercase())) {
            notes.note_of(Tolerance::OperationCase, said);
        }
        let path = match path {
            None | Some(Value::Null) => None,
            Some(Value::String(path)) if path.trim().is_empty() => None,
            Some(Value::String(path)) => Some(path),
            Some(_) => {
                return Err(PatchError::Syntax(
                    "The 'path' of an operation must be text.",
                ));
            }
        };
        if value.is_none() && verb != Verb::Remove {
            return Err(PatchError::Syntax(
                "An 'add' or 'replace' operation must have a value.",
            ));
        }
        Ok(Self { verb, path, value })
    }

    fn apply(
        &self,
        schema: &ResourceSchema,
        tree: &mut Tree,
        notes: &mut Notes,
    ) -> Result<(), PatchError> {
        let value = || self.value.clone().unwrap_or(Value::Null);
        let Some(path) = &self.path else {
            return match (self.verb, value()) {
                (Verb::Remove, _) => Err(PatchError::RemoveWithoutPath),
                (verb, Value::Object(members)) => assign_each(schema, tree, members, verb, notes),
                _ => Err(PatchError::Syntax(
                    "The value of an operation without a path must be an object.",
                )),
            };
        };
        let said = path;
        match (Path::parse(schema, path)?, self.verb) {
            // What the schema does not know is dropped, here as in a whole resource.
            (Path::Unknown, _) => {
                note_unknown(said, notes);
                Ok(())
            }
            (Path::Core, Verb::Remove) => Err(PatchError::RemoveWithoutPath),
            (Path::Core, verb) => assign_core(schema, tree, value(), verb, notes),
            (Path::Extension(extension), Verb::Remove) => {
                tree.shift_remove(&extension.urn);
                Ok(())
            }
            (Path::Extension(extension), verb) => {
                assign_extension(schema, tree, extension, value(), verb, notes)
            }
            (Path::Attribute(path), verb) => {
                refuse_read_only(&path)?;
                note_spelling(said, &path, notes);
                match verb {
                    Verb::Remove => remove(tree, &path, self.value.clone(), notes),
                    verb => assign(tree, &path, value(), verb, notes),
                }
            }
        }
    }
}

/// Notes a name that the schema does not have.
fn note_unknown(name: &str, notes: &mut Notes) {
    let is_urn = name
        .get(..4)
        .is_some_and(|head| head.eq_ignore_ascii_case("urn:"));
    let what = match is_urn || name.contains("://") {
        true => Tolerance::UnknownSchema,
        false => Tolerance::UnknownAttribute,
    };
    notes.note_of(what, name);
}

/// Notes how an attribute of an extension is spelled, where that is not the protocol's way.
fn note_spelling(said: &str, path: &AttributePath<'_>, notes: &mut Notes) {
    let Some(extension) = path.located.extension else {
        return;
    };
    match extension.strip_urn(said.trim()) {
        None => notes.note_of(Tolerance::BareName, said),
        Some(rest) if rest.starts_with('.') => notes.note_of(Tolerance::DotForColon, said),
        Some(_) => {}
    }
}

/// Notes the schemas of a body that nobody here knows.
fn note_schemas(schema: &ResourceSchema, urns: &Value, notes: &mut Notes) {
    for urn in urns.as_array().into_iter().flatten() {
        let Some(urn) = urn.as_str() else { continue };
        let is_known = schema.core.strip_urn(urn) == Some("") || schema.extension(urn).is_some();
        if !is_known {
            notes.note_of(Tolerance::UnknownSchema, urn);
        }
    }
}

fn refuse_read_only(path: &AttributePath<'_>) -> Result<(), PatchError> {
    let named = [Some(path.located.attribute), path.sub_attribute];
    match named
        .into_iter()
        .flatten()
        .find(|a| a.mutability == Mutability::ReadOnly)
    {
        Some(attribute) => Err(PatchError::ReadOnly {
            attribute: attribute.name.clone(),
        }),
        None => Ok(()),
    }
}

/// Sets what the members of an object name, each of them a path. Unknown, malformed and
/// read-only names are skipped: Okta repeats `id` in the value of a group's rename.
///
/// # Errors
/// [`PatchError`] where a value does not fit.
pub fn assign_members(
    schema: &ResourceSchema,
    tree: &mut Tree,
    members: Map<String, Value>,
    notes: &mut Notes,
) -> Result<(), PatchError> {
    assign_each(schema, tree, members, Verb::Replace, notes)
}

fn assign_each(
    schema: &ResourceSchema,
    tree: &mut Tree,
    members: Map<String, Value>,
    verb: Verb,
    notes: &mut Notes,
) -> Result<(), PatchError> {
    // Each member is as good as an operation.
    if members.len() > MAX_OPERATIONS {
        return Err(PatchError::Syntax(
            "An object may have at most 1000 members.",
        ));
    }
    for (name, value) in members {
        match Path::parse(schema, &name) {
            Ok(Path::Core) => assign_core(schema, tree, value, verb, notes)?,
            Ok(Path::Extension(extension)) => {
                assign_extension(schema, tree, extension, value, verb, notes)?;
            }
            Ok(Path::Attribute(path)) if refuse_read_only(&path).is_ok() => {
                note_spelling(&name, &path, notes);
                let is_plain = path.sub_attribute.is_none() && path.filter.is_none();
                if !is_plain || name.contains(':') {
                    notes.note_of(Tolerance::KeyIsPath, &name);
                }
                assign(tree, &path, value, verb, notes)?;
            }
            Ok(Path::Attribute(path)) if path.located.attribute.name == "schemas" => {
                note_schemas(schema, &value, notes);
            }
            Ok(Path::Attribute(_)) => notes.note_of(Tolerance::ReadOnly, &name),
            Ok(Path::Unknown) | Err(_) if value.is_null() => {}
            Ok(Path::Unknown) | Err(_) => note_unknown(&name, notes),
        }
    }
    Ok(())
}

/// An object under the URN of the core schema: its members are core attributes.
fn assign_core(
    schema: &ResourceSchema,
    tree: &mut Tree,
    value: Value,
    verb: Verb,
    notes: &mut Notes,
) -> Result<(), PatchError> {
    let Value::Object(members) = value else {
        return Err(PatchError::Syntax(
            "The value of a schema must be an object.",
        ));
    };
    for (name, value) in members {
        let path = Path::parse(schema, &format!("{}:{name}", schema.core.urn));
        let Ok(Path::Attribute(path)) = path else {
            attribute::note_unknown_part(&name, &value, notes);
            continue;
        };
        if refuse_read_only(&path).is_ok() {
            assign(tree, &path, value, verb, notes)?;
        }
    }
    Ok(())
}

fn assign_extension(
    schema: &ResourceSchema,
    tree: &mut Tree,
    extension: &Schema,
    value: Value,
    verb: Verb,
    notes: &mut Notes,
) -> Result<(), PatchError> {
    match value {
        Value::Object(members) => {
            for (name, value) in members {
                let path = Path::parse(schema, &format!("{}:{name}", extension.urn));
                let Ok(Path::Attribute(path)) = path else {
                    attribute::note_unknown_part(&name, &value, notes);
                    continue;
                };
                if refuse_read_only(&path).is_ok() {
                    assign(tree, &path, value, verb, notes)?;
                }
            }
            Ok(())
        }
        Value::Null => {
            tree.shift_remove(&extension.urn);
            Ok(())
        }
        _ => Err(PatchError::Syntax(
            "The value of an extension must be an object.",
        )),
    }
}

/// `add` and `replace` at a path. On single values they are one (both set it; nothing clears
/// it); on lists `add` keeps what is there.
fn assign(
    tree: &mut Tree,
    path: &AttributePath<'_>,
    value: Value,
    verb: Verb,
    notes: &mut Notes,
) -> Result<(), PatchError> {
    let attribute = path.located.attribute;
    if attribute.mutability == Mutability::WriteOnly {
        // A password is accepted and thrown away.
        notes.note(Tolerance::Password);
        return Ok(());
    }
    let mut held = take_held(tree, path);
    match (attribute.multi_valued, &mut held) {
        (true, held) => {
            let mut elements = match held.take() {
                Some(Value::Array(elements)) => elements,
                _ => Vec::new(),
            };
            assign_elements(path, &mut elements, value, verb, notes)?;
            attribute::check_length(attribute, &elements)?;
            *held = Some(Value::Array(elements));
        }
        (false, held) => match path.sub_attribute {
            None => assign_whole(attribute, held, value, notes)?,
            Some(sub_attribute) => {
                let mut object = take_object(held);
                let before = notes.len();
                set_part(&mut object, sub_attribute, value, notes)
                    .map_err(|e| e.within(attribute))?;
                notes.qualify(before, &attribute.name);
                *held = Some(Value::Object(object));
            }
        },
    }
    put_back(tree, path, held);
    Ok(())
}

/// Sets a single value. Of an object each member is set, cleared or, where the schema does not
/// let a client set it, skipped by itself: what is not mentioned stays (RFC 7644 section
/// 3.5.2.3).
fn assign_whole(
    attribute: &Attribute,
    held: &mut Option<Value>,
    value: Value,
    notes: &mut Notes,
) -> Result<(), PatchError> {
    let members = match attribute::unwrap_single(attribute, value, notes) {
        Value::Object(members) if attribute.kind == AttributeType::Complex => members,
        value => {
            let accepted = attribute::accept(attribute, value, notes)?;
            return match accepted {
                Some(Value::Object(members)) => set_members(attribute, held, members, notes),
                accepted => {
                    *held = accepted;
                    Ok(())
                }
            };
        }
    };
    set_members(attribute, held, members, notes)
}

fn set_members(
    attribute: &Attribute,
    held: &mut Option<Value>,
    members: Map<String, Value>,
    notes: &mut Notes,
) -> Result<(), PatchError> {
    let mut object = take_object(held);
    let before = notes.len();
    for (name, value) in members {
        let Some(sub_attribute) = attribute.sub_attribute(&name) else {
            attribute::note_unknown_part(&name, &value, notes);
            continue;
        };
        if sub_attribute.mutability != Mutability::ReadOnly {
            set_part(&mut object, sub_attribute, value, notes).map_err(|e| e.within(attribute))?;
        }
    }
    notes.qualify(before, &attribute.name);
    *held = Some(Value::Object(object));
    Ok(())
}

fn take_object(held: &mut Option<Value>) -> Map<String, Value> {
    match held.take() {
        Some(Value::Object(object)) => object,
        _ => Map::new(),
    }
}

/// Sets a part of a single object. Another `value`, as of the manager, makes it another object:
/// what was known of the former one does not hold any more, but for what comes with it.
fn set_part(
    object: &mut Map<String, Value>,
    sub_attribute: &Attribute,
    value: Value,
    notes: &mut Notes,
) -> Result<(), ValueError> {
    let former = object.get("value").cloned();
    set_sub_attribute(object, sub_attribute, value, notes)?;
    let present = object.get("value").cloned();
    if sub_attribute.name == "value" && former.is_some() && former != present {
        object.clear();
        object.extend(present.map(|value| ("value".to_owned(), value)));
    }
    Ok(())
}

fn set_sub_attribute(
    object: &mut Map<String, Value>,
    sub_attribute: &Attribute,
    value: Value,
    notes: &mut Notes,
) -> Result<(), ValueError> {
    match attribute::accept(sub_attribute, value, notes)? {
        Some(value) => object.insert(sub_attribute.name.clone(), value),
        None => object.shift_remove(&sub_attribute.name),
    };
    Ok(())
}

fn assign_elements(
    path: &AttributePath<'_>,
    elements: &mut Vec<Value>,
    value: Value,
    verb: Verb,
    notes: &mut Notes,
) -> Result<(), PatchError> {
    let attribute = path.located.attribute;
    let before = elements.len();
    match (&path.filter, path.sub_attribute) {
        (None, None) => {
            let new = attribute::accept_elements(attribute, value, notes)?;
            let newest = if verb == Verb::Replace { 0 } else { before };
            if verb == Verb::Replace {
                elements.clear();
            }
            elements.extend(new);
            attribute::settle(attribute, elements, newest);
            Ok(())
        }
        (None, Some(_)) => {
            let all = |_: &Value| true;
            if elements.is_empty() {
                elements.push(Value::Object(Map::new()));
            }
            assign_matching(path, elements, all, value, verb, notes)
        }
        (Some(filter), _) => {
            if !elements
                .iter()
                .any(|element| filter.matches_element(element))
            {
                let terms = filter
                    .equality_terms()
                    .ok_or_else(|| PatchError::NoTarget {
                        attribute: attribute.name.clone(),
                    })?;
                notes.note_of(Tolerance::ElementMade, &missed(path, &terms));
                let made = attribute::accept_object(attribute, terms, notes)?;
                elements.push(Value::Object(made));
                let last = before;
                return assign_at(path, elements, last, value, verb, notes)
                    .map(|()| settle_at(attribute, elements, last));
            }
            let matches = |e: &Value| filter.matches_element(e);
            assign_matching(path, elements, matches, value, verb, notes)
        }
    }
}

/// A value path that fitted nothing, as the protocol writes it.
fn missed(path: &AttributePath<'_>, terms: &Map<String, Value>) -> String {
    let terms: Vec<String> = terms
        .iter()
        .map(|(name, value)| format!("{name} eq {value}"))
        .collect();
    let attribute = &path.located.attribute.name;
    let part = path.sub_attribute.map(|part| format!(".{}", part.name));
    format!(
        "{attribute}[{}]{}",
        terms.join(" and "),
        part.unwrap_or_default()
    )
}

fn assign_matching(
    path: &AttributePath<'_>,
    elements: &mut Vec<Value>,
    matches: impl Fn(&Value) -> bool,
    value: Value,
    verb: Verb,
    notes: &mut Notes,
) -> Result<(), PatchError> {
    let hits: Vec<usize> = elements
        .iter()
        .enumerate()
        .filter(|(_, e)| matches(e))
        .map(|(at, _)| at)
        .collect();
    for at in &hits {
        assign_at(path, elements, *at, value.clone(), verb, notes)?;
    }
    if let Some(first) = hits.first() {
        settle_at(path.located.attribute, elements, *first);
    }
    Ok(())
}

/// Changes one element. One that ends without a value is left empty, for [`settle_at`] to drop.
fn assign_at(
    path: &AttributePath<'_>,
    elements: &mut [Value],
    at: usize,
    value: Value,
    verb: Verb,
    notes: &mut Notes,
) -> Result<(), PatchError> {
    let attribute = path.located.attribute;
    let Some(Value::Object(element)) = elements.get_mut(at) else {
        return Ok(());
    };
    match path.sub_attribute {
        Some(sub_attribute) => {
            let before = notes.len();
            set_sub_attribute(element, sub_attribute, value, notes)
                .map_err(|e| e.within(attribute))?;
            notes.qualify(before, &attribute.name);
            if sub_attribute.name == "value" && !element.contains_key("value") {
                element.clear();
            }
        }
        None => match attribute::accept_element(attribute, value, notes)? {
            Some(Value::Object(new)) => {
                // What the filter asked for stays true of the element, unless the value says
                // otherwise.
                let terms = path
                    .filter
                    .as_ref()
                    .and_then(super::filter::Filter::equality_terms);
                if verb == Verb::Replace {
                    element.clear();
                    let terms = terms.unwrap_or_default();
                    element.extend(attribute::accept_object(attribute, terms, notes)?);
                }
                element.extend(new);
            }
            _ => element.clear(),
        },
    }
    Ok(())
}

/// Drops elements that became empty and keeps one primary: the changed one, if it is.
fn settle_at(attribute: &Attribute, elements: &mut Vec<Value>, changed: usize) {
    let is_primary = |e: &Value| e.get("primary") == Some(&Value::Bool(true));
    if elements.get(changed).is_some_and(is_primary) {
        for (at, element) in elements.iter_mut().enumerate() {
            if at != changed
                && let Some(primary @ Value::Bool(true)) = element.get_mut("primary")
            {
                *primary = Value::Bool(false);
            }
        }
    }
    elements.retain(|e| e.as_object().is_none_or(|object| !object.is_empty()));
    attribute::settle(attribute, elements, 0);
}

/// `remove` at a path. What is not there is removed already.
fn remove(
    tree: &mut Tree,
    path: &AttributePath<'_>,
    value: Option<Value>,
    notes: &mut Notes,
) -> Result<(), PatchError> {
    let attribute = path.located.attribute;
    let mut held = take_held(tree, path);
    match (&mut held, path.sub_attribute) {
        (None, _) => {}
        (Some(Value::Array(elements)), sub_attribute) => {
            let listed = match value {
                None | Some(Value::Null) => None,
                Some(value) if path.filter.is_none() && sub_attribute.is_none() => {
                    notes.note_of(Tolerance::RemoveByValue, &attribute.name);
                    Some(attribute::accept_elements(attribute, value, notes)?)
                }
                Some(_) => None,
            };
            let hit = |element: &Value| match (&path.filter, &listed) {
                (Some(filter), _) => filter.matches_element(element),
                (None, Some(listed)) => listed.iter().any(|l| is_listed(attribute, l, element)),
                (None, None) => true,
            };
            match sub_attribute {
                None => elements.retain(|element| !hit(element)),
                Some(sub_attribute) => {
                    for element in elements.iter_mut().filter(|element| hit(element)) {
                        let Value::Object(element) = element else {
                            continue;
                        };
                        element.shift_remove(&sub_attribute.name);
                        if sub_attribute.name == "value" {
                            element.clear();
                        }
                    }
                    elements.retain(|e| e.as_object().is_none_or(|object| !object.is_empty()));
                }
            }
        }
        (Some(Value::Object(object)), Some(sub_attribute)) => {
            set_part(object, sub_attribute, Value::Null, notes)?;
        }
        (held, _) => *held = None,
    }
    put_back(tree, path, held);
    Ok(())
}

/// Whether an element is one of those that a removal lists: the same `value`, and the same
/// `type` where the list gives one.
fn is_listed(attribute: &Attribute, listed: &Value, element: &Value) -> bool {
    let (Value::Object(listed), Value::Object(held)) = (listed, element) else {
        return attribute::is_same_simple(attribute, listed, element);
    };
    listed.iter().all(
        |(name, value)| match (attribute.sub_attribute(name), held.get(name)) {
            _ if !matches!(name.as_str(), "value" | "type") && listed.contains_key("value") => true,
            (Some(sub_attribute), Some(held)) => {
                attribute::is_same_simple(sub_attribute, value, held)
            }
            _ => false,
        },
    )
}

/// Takes the value at a path's attribute out of the tree.
fn take_held(tree: &mut Tree, path: &AttributePath<'_>) -> Option<Value> {
    let name = &path.located.attribute.name;
    let home = match path.located.extension {
        None => tree,
        Some(extension) => tree.get_mut(&extension.urn)?.as_object_mut()?,
    };
    home.get_mut(name).map(Value::take)
}

/// Puts a value back where it was taken, or nothing, if nothing is left of it.
fn put_back(tree: &mut Tree, path: &AttributePath<'_>, held: Option<Value>) {
    let name = &path.located.attribute.name;
    let left = held.filter(|value| match value {
        Value::Null => false,
        Value::Array(elements) => !elements.is_empty(),
        Value::Object(object) => !object.is_empty(),
        Value::Bool(_) | Value::Number(_) | Value::String(_) => true,
    });
    let Some(extension) = path.located.extension else {
        match left {
            Some(value) => tree.insert(name.clone(), value),
            None => tree.shift_remove(name),
        };
        return;
    };
    let empty = || Value::Object(Map::new());
    if let Some(home) = tree
        .entry(&extension.urn)
        .or_insert_with(empty)
        .as_object_mut()
    {
        match left {
            Some(value) => home.insert(name.clone(), value),
            None => home.shift_remove(name),
        };
        if home.is_empty() {
            tree.shift_remove(&extension.urn);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::super::document::from_body;
    use super::super::schema::USER;
    use super::*;

    const ENTERPRISE: &str = "urn:ietf:params:scim:schemas:extension:enterprise:2.0:User";

    fn tree(body: Value) -> Tree {
        let body = body.as_object().unwrap().clone();
        from_body(&USER, body, &mut Notes::default()).unwrap()
    }

    fn request(operations: &Value, notes: &mut Notes) -> Result<PatchRequest, PatchError> {
        let body = json!({"Operations": operations});
        PatchRequest::parse(body.as_object().unwrap().clone(), notes)
    }

    /// The user `b` with `body` besides, after the operations.
    fn patched(body: Value, operations: Value) -> Result<Value, PatchError> {
        let mut whole = json!({"userName": "b"});
        whole
            .as_object_mut()
            .unwrap()
            .extend(body.as_object().unwrap().clone());
        let mut notes = Notes::default();
        let request = request(&operations, &mut notes)?;
        let mut tree = request.apply(&USER, &tree(whole), &mut notes)?;
        tree.shift_remove("userName");
        Ok(Value::Object(tree))
    }

    fn assert_patched(body: Value, operations: Value, expected: Value) {
        let shown = operations.to_string();
        assert_eq!(patched(body, operations), Ok(expected), "{shown}");
    }

    #[test]
    fn entra_says_add_replace_and_remove_in_capitals() {
        assert_patched(
            json!({"nickName": "n", "active": true}),
            json!([{"op": "Add", "path": "title", "value": "T"},
                   {"op": "Replace", "path": "active", "value": "False"},
                   {"op": "Remove", "path": "nickName"}]),
            json!({"active": false, "title": "T"}),
        );
        assert_patched(
            json!({}),
            json!([{"op": "add", "value": {"nickName": "Babs"}}]),
            json!({"nickName": "Babs"}),
        );
    }

    #[test]
    fn keys_of_a_path_less_value_are_paths() {
        assert_patched(
            json!({"name": {"givenName": "A", "middleName": "M"}}),
            json!([{"op": "replace", "value": {
                "id": "x", "meta": {"version": "1"}, "displayName": "D", "name.givenName": "G", "name.familyName": "F",
                format!("{ENTERPRISE}:employeeNumber"): "7", ENTERPRISE: {"department": "P", "unknown": 1},
                "emails[type eq \"work\"].value": "a@x.com", "unknown": 1, "__proto__": {"x": 1}, "": 2,
            }}]),
            json!({
                "name": {"givenName": "G", "middleName": "M", "familyName": "F"}, "displayName": "D",
                ENTERPRISE: {"employeeNumber": "7", "department": "P"},
                "emails": [{"type": "work", "value": "a@x.com"}],
            }),
        );
        assert_patched(
            json!({}),
            json!([{"op": "replace", "value": {"active": false}}]),
            json!({"active": false}),
        );
    }

    #[test]
    fn a_value_path_makes_the_element_that_it_misses() {
        for op in ["Add", "Replace"] {
            assert_patched(
                json!({}),
                json!([
                    {"op": op, "path": "addresses[type eq \"work\"].streetAddress", "value": "S"},
                    {"op": op, "path": "addresses[type eq \"work\"].locality", "value": "L"},
                    {"op": op, "path": "addresses[type eq \"work\"].region", "value": "R"},
                    {"op": op, "path": "addresses[type eq \"work\"].postalCode", "value": "P"},
                    {"op": op, "path": "addresses[type eq \"work\"].country", "value": "C"},
                    {"op": op, "path": "emails[type eq \"other\"].Value", "value": "o@x.com"},
                ]),
                json!({
                    "addresses": [{"type": "work", "streetAddress": "S", "locality": "L", "region": "R", "postalCode": "P", "country": "C"}],
                    "emails": [{"type": "other", "value": "o@x.com"}],
                }),
            );
        }
        assert_patched(
            json!({}),
            json!([
                {"op": "Add", "path": "roles[primary eq \"True\"].display", "value": "D"},
                {"op": "Add", "path": "roles[primary eq \"True\"].value", "value": "V"},
                {"op": "Add", "path": "roles[primary eq \"True\"].type", "value": "T"},
            ]),
            json!({"roles": [{"primary": true, "display": "D", "value": "V", "type": "T"}]}),
        );
        assert_eq!(
            patched(
                json!({}),
                json!([{"op": "replace", "path": "emails[value co \"x\"].type", "value": "work"}])
            ),
            Err(PatchError::NoTarget {
                attribute: "emails".into()
            })
        );
    }

    #[test]
    fn a_value_path_changes_only_what_it_names() {
        let emails = json!({"emails": [
            {"value": "a@x.com", "type": "work", "primary": true}, {"value": "b@x.com", "type": "home"},
        ]});
        assert_patched(
            emails.clone(),
            json!([{"op": "replace", "path": "emails[type eq \"work\"].value", "value": "n@x.com"}]),
            json!({"emails": [{"value": "n@x.com", "type": "work", "primary": true}, {"value": "b@x.com", "type": "home"}]}),
        );
        assert_patched(
            emails.clone(),
            json!([{"op": "replace", "path": "emails[type eq \"home\"].primary", "value": true}]),
            json!({"emails": [{"value": "a@x.com", "type": "work", "primary": false}, {"value": "b@x.com", "type": "home", "primary": true}]}),
        );
        assert_patched(
            emails.clone(),
            json!([{"op": "replace", "path": "emails[type eq \"home\"]", "value": {"value": "c@x.com"}}]),
            json!({"emails": [{"value": "a@x.com", "type": "work", "primary": true}, {"type": "home", "value": "c@x.com"}]}),
        );
        assert_patched(
            emails.clone(),
            json!([{"op": "remove", "path": "emails[type eq \"home\"]"}, {"op": "remove", "path": "emails[type eq \"none\"]"}]),
            json!({"emails": [{"value": "a@x.com", "type": "work", "primary": true}]}),
        );
        assert_patched(
            emails.clone(),
            json!([{"op": "replace", "path": "emails[type eq \"home\"].value", "value": ""}]),
            json!({"emails": [{"value": "a@x.com", "type": "work", "primary": true}]}),
        );
        assert_patched(
            emails,
            json!([{"op": "remove", "path": "emails[type eq \"work\"].value"}, {"op": "remove", "path": "emails"}]),
            json!({}),
        );
    }

    #[test]
    fn lists_grow_by_add_and_change_by_replace() {
        let emails = json!({"emails": [{"value": "a@x.com", "type": "work", "primary": true}]});
        assert_patched(
            emails.clone(),
            json!([{"op": "add", "path": "emails", "value": [{"value": "b@x.com", "primary": true}, {"value": "A@x.com", "type": "work"}]}]),
            json!({"emails": [{"value": "A@x.com", "type": "work", "primary": false}, {"value": "b@x.com", "primary": true}]}),
        );
        assert_patched(
            emails.clone(),
            json!([{"op": "replace", "path": "emails", "value": {"value": "b@x.com"}}]),
            json!({"emails": [{"value": "b@x.com"}]}),
        );
        assert_patched(
            emails.clone(),
            json!([{"op": "replace", "path": "emails", "value": []}]),
            json!({}),
        );
        assert_patched(
            emails.clone(),
            json!([{"op": "Remove", "path": "emails", "value": [{"value": "z@x.com"}]}]),
            emails.clone(),
        );
        assert_patched(
            emails.clone(),
            json!([{"op": "Remove", "path": "emails", "value": []}]),
            emails.clone(),
        );
        assert_patched(
            emails,
            json!([{"op": "Remove", "path": "emails", "value": [{"$ref": null, "value": "a@x.com"}]}]),
            json!({}),
        );
    }

    #[test]
    fn the_manager_is_set_and_cleared_in_every_shape() {
        let manager = |value: &str| json!({ENTERPRISE: {"manager": {"value": value}}});
        for path in [
            format!("{ENTERPRISE}:manager"),
            format!("{ENTERPRISE}.manager"),
            "manager".into(),
        ] {
            for value in [
                json!("2"),
                json!({"value": "2"}),
                json!([{"$ref": null, "value": "2"}]),
            ] {
                assert_patched(
                    json!({ENTERPRISE: {"manager": {"value": "1", "$ref": "../Users/1"}}}),
                    json!([{"op": "Replace", "path": path, "value": value}]),
                    manager("2"),
                );
            }
            for value in [json!(""), json!({"value": ""}), json!(null)] {
                assert_patched(
                    manager("1"),
                    json!([{"op": "Replace", "path": path, "value": value}]),
                    json!({}),
                );
            }
            assert_patched(
                manager("1"),
                json!([{"op": "Remove", "path": path}]),
                json!({}),
            );
        }
    }

    #[test]
    fn what_an_object_does_not_mention_stays() {
        let name = || json!({"name": {"givenName": "G", "familyName": "F"}});
        for value in [
            json!({}),
            json!({"middleName": ""}),
            json!({"fullName": "x"}),
        ] {
            for op in ["add", "replace"] {
                let at_path = json!([{"op": op, "path": "name", "value": value}]);
                assert_patched(name(), at_path, name());
                assert_patched(
                    name(),
                    json!([{"op": op, "value": {"name": value}}]),
                    name(),
                );
            }
        }
        assert_patched(
            name(),
            json!([{"op": "replace", "path": "name", "value": {"familyName": "F2", "givenName": ""}}]),
            json!({"name": {"familyName": "F2"}}),
        );
        assert_patched(
            name(),
            json!([{"op": "replace", "path": "name", "value": null}]),
            json!({}),
        );
        let manager = || json!({ENTERPRISE: {"manager": {"value": "1", "$ref": "../Users/1"}}});
        let display = json!([{"op": "add", "path": "manager", "value": {"displayName": "Boss"}}]);
        assert_patched(manager(), display, manager());
        for operation in [
            json!({"op": "remove", "path": "manager.value"}),
            json!({"op": "replace", "path": "manager.value", "value": ""}),
        ] {
            assert_patched(manager(), json!([operation]), json!({}));
        }
        assert_patched(
            manager(),
            json!([{"op": "replace", "path": "manager.value", "value": "2"}]),
            json!({ENTERPRISE: {"manager": {"value": "2"}}}),
        );
    }

    #[test]
    fn a_new_primary_wins_where_the_element_is_there_already() {
        assert_patched(
            json!({"emails": [{"value": "b@x", "type": "work", "primary": true}, {"value": "a@x", "type": "home"}]}),
            json!([{"op": "add", "path": "emails", "value": [{"value": "a@x", "type": "home", "primary": true}]}]),
            json!({"emails": [{"value": "b@x", "type": "work", "primary": false}, {"value": "a@x", "type": "home", "primary": true}]}),
        );
    }

    #[test]
    fn an_object_under_the_core_urn_is_core_attributes() {
        const CORE: &str = "urn:ietf:params:scim:schemas:core:2.0:User";
        for operation in [
            json!({"op": "replace", "value": {CORE: {"active": false, "id": "x"}}}),
            json!({"op": "replace", "path": CORE, "value": {"active": "False"}}),
        ] {
            assert_patched(
                json!({"active": true}),
                json!([operation]),
                json!({"active": false}),
            );
        }
    }

    #[test]
    fn whole_extensions() {
        assert_patched(
            json!({}),
            json!([{"op": "add", "path": ENTERPRISE, "value": {"department": "D"}}]),
            json!({ENTERPRISE: {"department": "D"}}),
        );
        assert_patched(
            json!({ENTERPRISE: {"department": "D"}}),
            json!([{"op": "remove", "path": ENTERPRISE}]),
            json!({}),
        );
    }

    #[test]
    fn what_cannot_be_done_is_refused_as_a_whole() {
        let title = json!({"op": "replace", "path": "title", "value": "T"});
        for (operation, error) in [
            (
                json!({"op": "replace", "path": "id", "value": "x"}),
                PatchError::ReadOnly {
                    attribute: "id".into(),
                },
            ),
            (
                json!({"op": "add", "path": "groups", "value": []}),
                PatchError::ReadOnly {
                    attribute: "groups".into(),
                },
            ),
            (
                json!({"op": "remove", "path": "userName"}),
                PatchError::Required {
                    attribute: "userName".into(),
                },
            ),
            (
                json!({"op": "replace", "path": "userName", "value": ""}),
                PatchError::Required {
                    attribute: "userName".into(),
                },
            ),
            (json!({"op": "remove"}), PatchError::RemoveWithoutPath),
            (
                json!({"op": "replace", "path": "a b", "value": 1}),
                PatchError::Path(PathError::Malformed),
            ),
        ] {
            assert_eq!(
                patched(json!({}), json!([title, operation])),
                Err(error),
                "{operation}"
            );
        }
        assert!(matches!(
            patched(
                json!({}),
                json!([title, {"op": "replace", "path": "active", "value": "maybe"}])
            ),
            Err(PatchError::Value(_))
        ));
    }

    #[test]
    fn what_is_no_patch_request_is_refused() {
        for body in [
            json!({}),
            json!({"Operations": null}),
            json!({"Operations": 1}),
            json!({"Operations": [1]}),
            json!({"Operations": [{"path": "title", "value": 1}]}),
            json!({"Operations": [{"op": "move", "path": "title"}]}),
            json!({"Operations": [{"op": "add", "path": "title"}]}),
            json!({"Operations": [{"op": "add", "path": 1, "value": 1}]}),
        ] {
            let body = body.as_object().unwrap().clone();
            let parsed = PatchRequest::parse(body, &mut Notes::default());
            assert!(matches!(parsed, Err(PatchError::Syntax(_))), "{parsed:?}");
        }
        assert!(patched(json!({}), json!([{"op": "add", "value": "text"}])).is_err());
        assert_patched(json!({"title": "T"}), json!([]), json!({"title": "T"}));
        let odd = json!({"schemas": [], "OPERATIONS": {"OP": "ADD", "PATH": "title", "VALUE": "T", "name": "x"}, "id": "1"});
        let odd = odd.as_object().unwrap().clone();
        assert!(PatchRequest::parse(odd, &mut Notes::default()).is_ok());
    }

    /// The names and subjects of what is tolerated in a PATCH of the user `b`.
    fn tolerated(operations: Value) -> Vec<String> {
        let mut notes = Notes::default();
        let request = request(&operations, &mut notes).unwrap();
        let before = tree(json!({"userName": "b"}));
        request.apply(&USER, &before, &mut notes).unwrap();
        let notes = notes.as_slice().iter();
        notes
            .map(|note| format!("{} {}", note.what.code(), note.subject))
            .collect()
    }

    #[test]
    fn what_is_tolerated_is_noted_and_what_is_right_is_not() {
        let right = json!([
            {"op": "add", "path": "title", "value": "T"},
            {"op": "replace", "path": "name.givenName", "value": "G"},
            {"op": "add", "path": "emails", "value": [{"value": "a@x.com", "type": "work", "primary": true}]},
            {"op": "replace", "path": "emails[type eq \"work\"].value", "value": "b@x.com"},
            {"op": "add", "path": format!("{ENTERPRISE}:department"), "value": "D"},
            {"op": "remove", "path": "title"},
            {"op": "replace", "value": {"active": false, "nickName": null}},
        ]);
        assert_eq!(tolerated(right), [""; 0]);
        let entra = json!([
            {"op": "Replace", "path": "active", "value": "False"},
            {"op": "Add", "path": "phoneNumbers[type eq \"mobile\"].value", "value": "1"},
            {"op": "Add", "path": "manager", "value": [{"value": "26"}]},
            {"op": "add", "path": format!("{ENTERPRISE}.division"), "value": "X"},
            {"op": "replace", "path": "displayName", "value": [{"value": "D"}]},
            {"op": "replace", "path": "title", "value": ""},
            {"op": "add", "value": {"name.givenName": "G", "id": "x", "shoeSize": 44, "roles":
                [{"value": "r", "primary": "True"}, {"value": "r"}], "emails": {"value": "a@x.com"}}},
            {"op": "replace", "path": "password", "value": "secret"},
        ]);
        assert_eq!(
            tolerated(entra),
            [
                "operationCase Replace",
                "operationCase Add",
                "textFalse active",
                "elementMade phoneNumbers[type eq \"mobile\"].value",
                "bareName manager",
                "listForOne manager",
                &format!("dotForColon {ENTERPRISE}.division"),
                "listForOne displayName",
                "blank title",
                "keyIsPath name.givenName",
                "readOnly id",
                "unknownAttribute shoeSize",
                "textTrue roles.primary",
                "repeated roles",
                "oneForList emails",
                "password ",
            ]
        );
        assert_eq!(tolerated(json!([])), ["noOperations "]);
    }

    proptest! {
        /// Whatever is asked, the answer is an error or a tree that a body could have made: what
        /// PATCH leaves behind is what PUT would have kept.
        #[test]
        fn a_patched_tree_is_one_that_a_body_makes(
            operations in prop::collection::vec(
                (
                    prop::sample::select(vec!["add", "replace", "remove"]),
                    prop::sample::select(vec![
                        "title", "active", "name", "name.givenName", "emails", "emails.value", "emails[type eq \"work\"]",
                        "emails[type eq \"work\"].value", "emails[primary eq true].type", "emails[not (type pr)]", "manager",
                        "manager.value", "roles", "addresses[type eq \"home\"].region", "unknown", "timezone",
                    ]),
                    prop::sample::select(vec![
                        json!("x"), json!(true), json!(null), json!(""), json!([]), json!({}), json!({"value": "v"}),
                        json!([{"value": "v", "type": "work", "primary": true}, {"value": "w", "primary": true}]),
                        json!({"givenName": "G"}), json!([{"type": "work"}]), json!({"value": "v", "type": "home"}),
                    ]),
                ),
                0..8,
            )
        ) {
            let operations: Vec<Value> = operations.into_iter()
                .map(|(op, path, value)| json!({"op": op, "path": path, "value": value}))
                .collect();
            let notes = &mut Notes::default();
            let request = request(&json!(operations), notes).unwrap();
            let before = tree(json!({"userName": "b", "emails": [{"value": "a@x.com", "type": "work"}]}));
            if let Ok(after) = request.apply(&USER, &before, notes) {
                let mut again = from_body(&USER, after.clone(), notes).unwrap();
                let mut after = after;
                again.sort_keys();
                after.sort_keys();
                prop_assert_eq!(&again, &after);
                let primaries = |name: &str| after.get(name).and_then(Value::as_array)
                    .map_or(0, |e| e.iter().filter(|e| e["primary"] == true).count());
                prop_assert!(primaries("emails") <= 1);
            }
        }
    }
}
