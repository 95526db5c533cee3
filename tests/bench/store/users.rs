//! Made-up users, the same ones in every run: user number 17 is always the same person.

use crate::common::numbers::mix;

const GIVEN: [&str; 32] = [
    "Amara", "Bjoern", "Chiara", "Dmitri", "Elif", "Farid", "Greta", "Hiroshi", "Ines", "Jamal",
    "Katarina", "Liam", "Mei", "Nikhil", "Olga", "Pedro", "Quentin", "Rosa", "Sven", "Tomoko",
    "Uma", "Viktor", "Wanda", "Ximena", "Yusuf", "Zoe", "Anders", "Beatriz", "Cormac", "Daria",
    "Emeka", "Freya",
];
const FAMILY: [&str; 32] = [
    "Almeida",
    "Brandt",
    "Castellano",
    "Dubois",
    "Eriksen",
    "Fujimoto",
    "Garcia",
    "Haddad",
    "Ivanova",
    "Jensen",
    "Kowalski",
    "Lindqvist",
    "Mbeki",
    "Novak",
    "Okafor",
    "Petrov",
    "Quinn",
    "Rossi",
    "Schneider",
    "Tanaka",
    "Ueda",
    "Vasquez",
    "Weber",
    "Xu",
    "Yamada",
    "Zielinski",
    "Andersson",
    "Bianchi",
    "Costa",
    "Delgado",
    "Egger",
    "Ferrari",
];
const TITLES: [&str; 8] = [
    "Engineer",
    "Senior Engineer",
    "Accountant",
    "Nurse",
    "Account Manager",
    "Designer",
    "Product Manager",
    "Support Specialist",
];
const DEPARTMENTS: [&str; 8] = [
    "Research",
    "Finance",
    "Customer Care",
    "Operations",
    "Sales",
    "Legal",
    "People",
    "Logistics",
];

fn given(number: u64) -> &'static str {
    GIVEN[mix(number) as usize % GIVEN.len()]
}

fn family(number: u64) -> &'static str {
    FAMILY[(mix(number) >> 16) as usize % FAMILY.len()]
}

/// The userName of a user: an e-mail address that is the user's own.
pub(crate) fn user_name(number: u64) -> String {
    let (given, family) = (given(number), family(number));
    format!("{given}.{family}.{number}@example.com").to_lowercase()
}

/// The work e-mail address, which is another one.
pub(crate) fn email(number: u64) -> String {
    let (given, family) = (given(number), family(number));
    format!("{family}.{given}.{number}@mail.example.com").to_lowercase()
}

/// The identity provider's id of a user: of no order that we know.
pub(crate) fn external_id(number: u64) -> String {
    format!("00u{:016x}", mix(number ^ 0x5eed))
}

/// The body by which an identity provider creates a user.
pub(crate) fn body(number: u64) -> String {
    let (given, family) = (given(number), family(number));
    let title = TITLES[(mix(number) >> 32) as usize % TITLES.len()];
    let department = DEPARTMENTS[(mix(number) >> 40) as usize % DEPARTMENTS.len()];
    format!(
        concat!(
            r#"{{"schemas":["urn:ietf:params:scim:schemas:core:2.0:User","#,
            r#""urn:ietf:params:scim:schemas:extension:enterprise:2.0:User"],"#,
            r#""userName":"{}","externalId":"{}","active":true,"displayName":"{} {}","#,
            r#""name":{{"givenName":"{}","familyName":"{}","formatted":"{} {}"}},"#,
            r#""emails":[{{"value":"{}","type":"work","primary":true}}],"title":"{}","#,
            r#""urn:ietf:params:scim:schemas:extension:enterprise:2.0:User":"#,
            r#"{{"department":"{}","employeeNumber":"{}"}}}}"#
        ),
        user_name(number),
        external_id(number),
        given,
        family,
        given,
        family,
        given,
        family,
        email(number),
        title,
        department,
        number
    )
}
