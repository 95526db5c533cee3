//! What was tolerated: [`Notes`] of a request, made where the tolerance is. An administrator reads
//! them as sentences.
//!
//! A request that keeps to the protocol has none, and costs nothing here.

use super::text::cut;
use crate::coded::told;

/// Most notes of one request; what is tolerated beyond is not noted.
pub const MOST_NOTES: usize = 16;
/// Longest subject of a note, in bytes; a longer one is cut.
const LONGEST_SUBJECT: usize = 120;

told! {
    /// A habit of a client that is not the protocol's, and is taken all the same.
    Tolerance {
        /// `Add`, `Replace`, `Remove` with a capital letter (Entra).
        OperationCase = "operationCase", "The operation '{}' was read as if it were in lower case.";
        /// One operation where a list belongs.
        OneOperation = "oneOperation", "One operation was sent in the place of a list of operations.";
        /// A PATCH that asks for nothing.
        NoOperations = "noOperations", "The PATCH had no operations and changed nothing.";
        /// `"True"` for `true` (Entra).
        TextTrue = "textTrue", "The text \"True\" for '{}' was read as true.";
        /// `"False"` for `false` (Entra).
        TextFalse = "textFalse", "The text \"False\" for '{}' was read as false.";
        /// A value path whose element is not there (Entra).
        ElementMade = "elementMade", "Nothing fitted '{}', so the value that was missing was created.";
        /// A key of a path-less value that is a path (Entra).
        KeyIsPath = "keyIsPath", "The key '{}' was read as a path.";
        /// An attribute of an extension without its URN (Entra).
        BareName = "bareName", "'{}' was taken for the attribute of that name in an extension.";
        /// A dot between URN and attribute (Entra, before December 2018).
        DotForColon = "dotForColon", "The dot behind the URN in '{}' was read as a colon.";
        /// `email`, `workEmail` in a filter (PingOne).
        Alias = "alias", "'{}' in the filter was taken for 'emails.value'.";
        /// A literal without quotes in a filter.
        BareLiteral = "bareLiteral", "A value without quotes in the filter was read as text.";
        /// One element where a list belongs (OneLogin).
        OneForList = "oneForList", "One value of '{}' was read as a list of one.";
        /// A list of one where a single value belongs (Entra).
        ListForOne = "listForOne", "The list sent for '{}' was read as the one value in it.";
        /// A plain value where an object with `value` belongs (Entra).
        PlainForObject = "plainForObject", "The plain value sent for '{}' was taken for its 'value'.";
        /// A JSON document in a string (Entra's roles).
        JsonInText = "jsonInText", "The JSON document in the text sent for '{}' was read.";
        /// A blank text for no value.
        Blank = "blank", "The blank value of '{}' was read as no value.";
        /// More than one primary element (PingOne).
        ManyPrimaries = "manyPrimaries", "Of several primary values of '{}' one was kept as primary.";
        /// The same element twice.
        Repeated = "repeated", "A value of '{}' that was sent twice was kept once.";
        /// A list of values behind a removal (Entra, JumpCloud).
        RemoveByValue = "removeByValue", "The removal from '{}' took away the values that it listed, and no others.";
        /// An attribute that the schema does not have.
        UnknownAttribute = "unknownAttribute", "The attribute '{}' is not in the schema and was dropped.";
        /// An extension, or another schema, that the tenant does not have.
        UnknownSchema = "unknownSchema", "The schema '{}' is not known in this tenant; what was sent of it was dropped.";
        /// An attribute that the service provider sets.
        ReadOnly = "readOnly", "'{}' is set by the service and what was sent for it was skipped.";
        /// A password.
        Password = "password", "The password was accepted and thrown away.";
        /// A body that does not say what it is (authentik).
        NoSchemas = "noSchemas", "The body did not name its schemas.";
        /// A PUT that does not map `active`.
        ActiveKept = "activeKept", "The PUT did not say whether the user is active: the user stays inactive.";
        /// A PUT of a group that does not name its members.
        MembersKept = "membersKept", "The PUT did not name members: the group keeps those it has.";
        /// No time zone.
        TimeZoneDefault = "timeZoneDefault", "No time zone was sent: Etc/UTC is assumed.";
        /// A SCIM 1.1 body on the path of SCIM 2.0 (PingOne).
        Scim11Body = "scim11Body", "The body was of SCIM 1.1 on the path of SCIM 2.0, and was answered in SCIM 1.1.";
        /// A POST that means another method (SCIM 1.1).
        MethodOverride = "methodOverride", "The POST was carried out as the {} that it stands for.";
    }
}

/// One tolerance, and what it was applied to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Note {
    /// Which.
    pub what: Tolerance,
    /// An attribute, a path, a key or a URN, as the sentence needs it; may be blank.
    pub subject: Box<str>,
}

impl Note {
    /// For an administrator.
    #[must_use]
    pub fn sentence(&self) -> String {
        self.what.template().replacen("{}", &self.subject, 1)
    }
}

/// The notes of a request, each once. Empty ones take no memory.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Notes(Vec<Note>);

impl Notes {
    /// Notes a tolerance that has no subject.
    pub fn note(&mut self, what: Tolerance) {
        self.note_of(what, "");
    }

    /// Notes a tolerance of something.
    pub fn note_of(&mut self, what: Tolerance, subject: &str) {
        let subject = cut(subject, LONGEST_SUBJECT);
        let is_new = || {
            let mut noted = self.0.iter();
            !noted.any(|note| note.what == what && *note.subject == *subject)
        };
        if self.0.len() < MOST_NOTES && is_new() {
            let subject = Box::from(subject);
            self.0.push(Note { what, subject });
        }
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Gives the notes from the number `from` on, which were made of parts of an attribute, those
    /// parts' whole names.
    pub fn qualify(&mut self, from: usize, attribute: &str) {
        for note in self.0.split_off(from.min(self.0.len())) {
            let whole = match note.subject.is_empty() {
                true => String::new(),
                false => format!("{attribute}.{}", note.subject),
            };
            self.note_of(note.what, &whole);
        }
    }

    /// Takes in what was noted elsewhere.
    pub fn extend(&mut self, others: Self) {
        if self.0.is_empty() {
            self.0 = others.0;
            return;
        }
        for note in others.0 {
            self.note_of(note.what, &note.subject);
        }
    }

    /// All of them, in the order in which they were made.
    #[must_use]
    pub fn as_slice(&self) -> &[Note] {
        &self.0
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// As the store keeps them: a JSON list of name and subject, one after the other.
    #[must_use]
    pub fn to_text(&self) -> Option<String> {
        if self.is_empty() {
            return None;
        }
        let flat = self.0.iter();
        let flat: Vec<&str> = flat
            .flat_map(|note| [note.what.code(), &*note.subject])
            .collect();
        serde_json::to_string(&flat).ok()
    }

    /// Reads what [`Self::to_text`] wrote; a tolerance of a newer release is passed over.
    #[must_use]
    pub fn from_text(text: &str) -> Self {
        let flat: Vec<String> = serde_json::from_str(text).unwrap_or_default();
        let notes = flat.chunks_exact(2).filter_map(|pair| match pair {
            [code, subject] => Some(Note {
                what: Tolerance::from_code(code)?,
                subject: Box::from(subject.as_str()),
            }),
            _ => None,
        });
        Self(notes.collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_note_is_made_once_and_there_is_an_end_of_them() {
        let mut notes = Notes::default();
        notes.note_of(Tolerance::TextFalse, "active");
        notes.note_of(Tolerance::TextFalse, "active");
        assert_eq!(notes.as_slice().len(), 1);
        assert_eq!(
            notes.as_slice()[0].sentence(),
            "The text \"False\" for 'active' was read as false."
        );
        for n in 0..100 {
            notes.note_of(
                Tolerance::UnknownAttribute,
                &format!("{n}{}", "ä".repeat(200)),
            );
        }
        assert_eq!(notes.as_slice().len(), MOST_NOTES);
        let longest = notes.as_slice().iter().map(|note| note.subject.len()).max();
        assert!(longest <= Some(LONGEST_SUBJECT));
    }

    #[test]
    fn what_is_stored_reads_back() {
        let mut notes = Notes::default();
        assert_eq!(notes.to_text(), None);
        notes.note(Tolerance::NoSchemas);
        notes.note_of(Tolerance::Blank, "title");
        notes.note_of(Tolerance::Blank, "givenName");
        notes.qualify(2, "name");
        assert_eq!(&*notes.as_slice()[2].subject, "name.givenName");
        let text = notes.to_text().unwrap();
        assert_eq!(Notes::from_text(&text), notes);
        assert!(Notes::from_text(r#"["ofTomorrow","x"]"#).is_empty());
    }

    #[test]
    fn every_tolerance_has_a_name_of_its_own() {
        for what in Tolerance::ALL {
            assert_eq!(Tolerance::from_code(what.code()), Some(*what));
        }
    }
}
