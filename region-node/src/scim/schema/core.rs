//! The schemas that every tenant has: User and Enterprise User (RFC 7643 sections 4.1, 4.3 and
//! 8.7.1), written in the RFC's order.

use std::sync::LazyLock;

use shared::urn;

use super::{
    Attribute, AttributeType, Mutability, ResourceKind, ResourceSchema, Returned, Schema,
    Uniqueness,
};

/// An attribute with the RFC's defaults (RFC 7643 section 2.2): optional text, compared without
/// case, readable and writable, returned by default, not unique.
fn attribute(name: &str, kind: AttributeType, description: &str) -> Attribute {
    Attribute {
        name: name.to_owned(),
        scim11_name: None,
        kind,
        multi_valued: false,
        description: description.to_owned(),
        required: false,
        canonical_values: Vec::new(),
        case_exact: false,
        mutability: Mutability::ReadWrite,
        returned: Returned::Default,
        uniqueness: Uniqueness::None,
        reference_types: Vec::new(),
        sub_attributes: Vec::new(),
    }
}

fn text(name: &str, description: &str) -> Attribute {
    attribute(name, AttributeType::String, description)
}

fn boolean(name: &str, description: &str) -> Attribute {
    attribute(name, AttributeType::Boolean, description)
}

fn reference(name: &str, types: &[&str], description: &str) -> Attribute {
    let mut reference = attribute(name, AttributeType::Reference, description);
    reference.case_exact = true;
    reference.reference_types = types.iter().map(|t| (*t).to_owned()).collect();
    reference
}

fn complex(name: &str, description: &str, sub_attributes: Vec<Attribute>) -> Attribute {
    let mut complex = attribute(name, AttributeType::Complex, description);
    complex.sub_attributes = sub_attributes;
    complex
}

impl Attribute {
    fn required(mut self) -> Self {
        self.required = true;
        self
    }

    fn exact(mut self) -> Self {
        self.case_exact = true;
        self
    }

    fn read_only(mut self) -> Self {
        self.mutability = Mutability::ReadOnly;
        self
    }

    fn list(mut self) -> Self {
        self.multi_valued = true;
        self
    }

    fn canonical(mut self, values: &[&str]) -> Self {
        self.canonical_values = values.iter().map(|v| (*v).to_owned()).collect();
        self
    }
}

/// A multi-valued attribute with the usual sub-attributes (RFC 7643 section 2.4).
fn plural(name: &str, description: &str, value: Attribute, types: &[&str]) -> Attribute {
    let sub_attributes = vec![
        value,
        text(
            "display",
            "A human-readable name, primarily used for display purposes.",
        ),
        text("type", "A label indicating the attribute's function.").canonical(types),
        primary(),
    ];
    complex(name, description, sub_attributes).list()
}

fn primary() -> Attribute {
    boolean(
        "primary",
        "Whether this is the preferred value; true appears at most once.",
    )
}

/// `schemas`, `id`, `externalId` and `meta` (RFC 7643 sections 3 and 3.1).
fn common() -> Vec<Attribute> {
    let date_time = |name, description| {
        attribute(name, AttributeType::DateTime, description)
            .read_only()
            .exact()
    };
    let mut schemas = reference(
        "schemas",
        &["uri"],
        "The schemas that the resource is made of.",
    )
    .list()
    .read_only();
    schemas.returned = Returned::Always;
    let mut id = text("id", "The service provider's identifier of the resource.")
        .exact()
        .read_only();
    id.returned = Returned::Always;
    id.uniqueness = Uniqueness::Server;
    vec![
        schemas,
        id,
        text(
            "externalId",
            "The provisioning client's identifier of the resource.",
        )
        .exact(),
        complex(
            "meta",
            "What the service provider knows of the resource.",
            vec![
                text("resourceType", "The name of the resource type.")
                    .exact()
                    .read_only(),
                date_time("created", "When the resource was created."),
                date_time("lastModified", "When the resource was last changed."),
                text("version", "The version of the resource, as in ETag.")
                    .exact()
                    .read_only(),
                reference("location", &["uri"], "The URI of the resource.").read_only(),
            ],
        )
        .read_only(),
    ]
}

fn user() -> Schema {
    let mut user_name = text(
        "userName",
        "Unique identifier for the User, typically used by the user to directly authenticate.",
    )
    .required();
    user_name.uniqueness = Uniqueness::Server;
    let mut password = text(
        "password",
        "Accepted and thrown away: this service keeps none.",
    );
    password.mutability = Mutability::WriteOnly;
    password.returned = Returned::Never;
    let mut certificate = attribute(
        "value",
        AttributeType::Binary,
        "The value of an X.509 certificate.",
    );
    certificate.case_exact = true;
    let work_home_other: &[&str] = &["work", "home", "other"];
    Schema {
        urn: urn::USER.to_owned(),
        aliases: vec![
            urn::CORE_1.to_owned(),
            "urn:scim:schemas:core:2.0".to_owned(),
        ],
        name: "User".to_owned(),
        description: "User Account".to_owned(),
        attributes: vec![
            user_name,
            complex(
                "name",
                "The components of the user's name.",
                vec![
                    text("formatted", "The full name, formatted for display."),
                    text("familyName", "The family name of the User, or last name."),
                    text("givenName", "The given name of the User, or first name."),
                    text("middleName", "The middle name(s) of the User."),
                    text(
                        "honorificPrefix",
                        "The honorific prefix(es) of the User, or title.",
                    ),
                    text(
                        "honorificSuffix",
                        "The honorific suffix(es) of the User, or suffix.",
                    ),
                ],
            ),
            text(
                "displayName",
                "The name of the User, suitable for display to end-users.",
            ),
            text(
                "nickName",
                "The casual way to address the user in real life.",
            ),
            reference(
                "profileUrl",
                &["external"],
                "A URL of the User's online profile.",
            ),
            text("title", "The user's title, such as \"Vice President\"."),
            text(
                "userType",
                "The relationship between the organization and the user.",
            ),
            text(
                "preferredLanguage",
                "The User's preferred written or spoken language.",
            ),
            text(
                "locale",
                "The User's default location, for formatting of currency and dates.",
            ),
            text(
                "timezone",
                "The User's time zone, an IANA name; Etc/UTC where none is sent.",
            ),
            boolean("active", "The User's administrative status."),
            password,
            plural(
                "emails",
                "E-mail addresses for the user.",
                text("value", "An e-mail address for the user."),
                work_home_other,
            ),
            plural(
                "phoneNumbers",
                "Phone numbers for the User.",
                text("value", "A phone number of the User."),
                &["work", "home", "mobile", "fax", "pager", "other"],
            ),
            plural(
                "ims",
                "Instant messaging addresses for the User.",
                text("value", "An instant messaging address of the User."),
                &["aim", "gtalk", "icq", "xmpp", "msn", "skype", "qq", "yahoo"],
            ),
            plural(
                "photos",
                "URLs of photos of the User.",
                reference("value", &["external"], "URL of a photo of the User."),
                &["photo", "thumbnail"],
            ),
            complex(
                "addresses",
                "Physical mailing addresses for the User.",
                vec![
                    text(
                        "formatted",
                        "The full mailing address, formatted for display.",
                    ),
                    text("streetAddress", "The full street address component."),
                    text("locality", "The city or locality component."),
                    text("region", "The state or region component."),
                    text("postalCode", "The zip code or postal code component."),
                    text("country", "The country name component."),
                    text("type", "A label indicating the attribute's function.")
                        .canonical(work_home_other),
                    primary(),
                ],
            )
            .list(),
            complex(
                "groups",
                "The groups to which the user belongs; changed through the groups.",
                vec![
                    text("value", "The identifier of the User's group.")
                        .exact()
                        .read_only(),
                    reference("$ref", &["Group"], "The URI of the group.").read_only(),
                    text("display", "The group's display name.").read_only(),
                    text("type", "Whether the membership is direct or indirect.")
                        .canonical(&["direct", "indirect"])
                        .read_only(),
                ],
            )
            .list()
            .read_only(),
            plural(
                "entitlements",
                "Entitlements for the User that represent a thing the User has.",
                text("value", "The value of an entitlement."),
                &[],
            ),
            plural(
                "roles",
                "Roles for the User that collectively represent who the User is.",
                text("value", "The value of a role."),
                &[],
            ),
            plural(
                "x509Certificates",
                "Certificates issued to the User.",
                certificate,
                &[],
            ),
        ],
    }
}

fn enterprise_user() -> Schema {
    let mut manager_value = text(
        "value",
        "The identifier of the manager; it need not be a known one.",
    )
    .exact();
    manager_value.scim11_name = Some("managerId".to_owned());
    Schema {
        urn: urn::ENTERPRISE_USER.to_owned(),
        aliases: vec![
            urn::ENTERPRISE_1.to_owned(),
            "urn:scim:schemas:extension:enterprise:2.0".to_owned(),
            "urn:scim:schemas:extension:enterprise:2.0:User".to_owned(),
        ],
        name: "EnterpriseUser".to_owned(),
        description: "Enterprise User".to_owned(),
        attributes: vec![
            text(
                "employeeNumber",
                "Identifier assigned to a person by the organization.",
            ),
            text("costCenter", "The name of a cost center."),
            text("organization", "The name of an organization."),
            text("division", "The name of a division."),
            text("department", "The name of a department."),
            complex(
                "manager",
                "The User's manager.",
                vec![
                    manager_value,
                    reference("$ref", &["User"], "The URI of the User who is the manager."),
                    text("displayName", "The display name of the manager.").read_only(),
                ],
            ),
        ],
    }
}

fn group() -> Schema {
    let mut display_name = text("displayName", "A human-readable name for the Group.").required();
    display_name.uniqueness = Uniqueness::Server;
    let mut member_value = text("value", "Identifier of the member of this Group.").exact();
    member_value.mutability = Mutability::Immutable;
    let mut member_ref = reference(
        "$ref",
        &["User", "Group"],
        "The URI of the member resource.",
    );
    member_ref.mutability = Mutability::Immutable;
    let mut member_type =
        text("type", "Whether the member is a User or a Group.").canonical(&["User", "Group"]);
    member_type.mutability = Mutability::Immutable;
    Schema {
        urn: urn::GROUP.to_owned(),
        aliases: vec![
            urn::CORE_1.to_owned(),
            "urn:scim:schemas:core:2.0".to_owned(),
        ],
        name: "Group".to_owned(),
        description: "Group".to_owned(),
        attributes: vec![
            display_name,
            complex(
                "members",
                "The members of the Group.",
                vec![member_value, member_ref, member_type],
            )
            .list(),
        ],
    }
}

/// The Group resource type.
pub static GROUP: LazyLock<ResourceSchema> = LazyLock::new(|| ResourceSchema {
    kind: ResourceKind::Group,
    description: "Group".to_owned(),
    common: common(),
    core: group(),
    extensions: Vec::new(),
});

/// The User resource type with the Enterprise User extension.
pub static USER: LazyLock<ResourceSchema> = LazyLock::new(|| ResourceSchema {
    kind: ResourceKind::User,
    description: "User Account".to_owned(),
    common: common(),
    core: user(),
    extensions: vec![enterprise_user()],
});
