//! What the guides say: the fields of each identity provider's own pages, what to put into them, and
//! what then happens here. docs/guides says the same at greater length.

use maud::{Markup, html};

use super::{Values, code, effects, fields, mapping, the_token};
use crate::console::layout::copyable;

pub(super) fn okta(values: &Values) -> Markup {
    html! {
        (copyable("base-url", "Base URL", &values.base_url))
        section.stack aria-labelledby="connect" {
            h2 #connect { "Connect" }
            ol.steps {
                li { p { "In the Okta Admin Console open " strong { "Applications" } ", then your application, or " strong { "Browse App Catalog" } " and " em { "SCIM 2.0 Test App (Header Auth)" } ". In an application of your own: " strong { "General" } " › " em { "App Settings" } " › " strong { "Edit" } " › Provisioning: " strong { "SCIM" } " › " strong { "Save" } "." } }
                li {
                    p { strong { "Provisioning" } " › " strong { "Integration" } " › " strong { "Edit" } " (catalogue application: " strong { "Configure API Integration" } " › Enable API integration)." }
                    (fields("Integration", &[
                        ("SCIM connector base URL, or Base URL", code(&values.base_url)),
                        ("Unique identifier field for users", code("userName")),
                        ("Supported provisioning actions", html! { "Import New Users and Profile Updates, Push New Users, Push Profile Updates; Push Groups if you want groups" }),
                        ("Authentication Mode", html! { "HTTP Header" }),
                        ("Authorization, or API Token", html! { (the_token()) ", with or without " code { "Bearer" } " before it" }),
                    ]))
                }
                li { p { strong { "Test Connector Configuration" } ", or " strong { "Test API Credentials" } "; then " strong { "Save" } "." } }
                li { p { strong { "Provisioning" } " › " strong { "To App" } " › " strong { "Edit" } ": enable " em { "Create Users" } ", " em { "Update User Attributes" } " and " em { "Deactivate Users" } " › " strong { "Save" } "." } }
                li { p { strong { "Assignments" } ": assign a person, and look at " a href="/console/users" { "Users" } " here." } }
            }
        }
        (mapping("Okta", &[
            ("userName", "userName", "Required; unique without case. Application username format: Email"),
            ("user.firstName", "name.givenName", ""),
            ("user.lastName", "name.familyName", ""),
            ("user.email", "emails[type eq \"work\"].value", "Primary"),
            ("user.displayName", "displayName", "Optional"),
            ("user.timezone", "timezone", "Optional; an IANA name, Etc/UTC if absent"),
            ("Okta's user id", "externalId", "Set by Okta"),
            ("assigned / unassigned", "active", ""),
        ]))
        (effects("In Okta", &[
            ("A person is assigned", "Looked up by userName; linked if found, else created"),
            ("The profile changes", "Replaced as a whole (PUT)"),
            ("Unassigned, or deactivated", "Disabled (active: false); stays, and can be found"),
            ("Assigned again", "Active again, the same user"),
            ("Import Now", "All users are read, in pages of 100"),
        ]))
        p.quiet { "Okta never deletes users." }
    }
}

pub(super) fn entra(values: &Values) -> Markup {
    html! {
        (copyable("base-url", "Tenant URL", &values.base_url))
        section.stack aria-labelledby="connect" {
            h2 #connect { "Connect" }
            ol.steps {
                li { p { "In the Microsoft Entra admin center open " strong { "Enterprise applications" } ", then your application, or " strong { "New application" } " › " strong { "Create your own application" } " › " em { "Integrate any other application you don't find in the gallery" } "." } }
                li {
                    p { strong { "Provisioning" } " › " strong { "New configuration" } " (or " strong { "Get started" } " › Provisioning Mode: " em { "Automatic" } ")." }
                    (fields("Admin credentials", &[
                        ("Tenant URL", code(&values.base_url)),
                        ("Secret Token", the_token()),
                    ]))
                    p.hint { "A tenant URL that ends in " code { "?aadOptscim062020" } " works as well." }
                }
                li { p { strong { "Test Connection" } "; then " strong { "Create" } " (or " strong { "Save" } ")." } }
                li { p { strong { "Mappings" } " › " em { "Provision Microsoft Entra ID Groups" } ": " strong { "Enabled: No" } ", unless you want groups › " strong { "Save" } "." } }
                li { p { strong { "Mappings" } " › " em { "Provision Microsoft Entra ID Users" } ": check the table below › " strong { "Save" } "." } }
                li { p { "Assign users under " strong { "Users and groups" } ", then " strong { "Start provisioning" } ". " strong { "Provision on demand" } " does it for one person at once, and shows each step." } }
            }
        }
        (mapping("Microsoft Entra ID", &[
            ("userPrincipalName, or mail", "userName", "Matching, precedence 1"),
            ("Switch([IsSoftDeleted], , \"False\", \"True\", \"True\", \"False\")", "active", ""),
            ("givenName", "name.givenName", ""),
            ("surname", "name.familyName", ""),
            ("mail", "emails[type eq \"work\"].value", ""),
            ("objectId", "externalId", "May be the matching attribute instead"),
            ("displayName", "displayName", "Optional"),
            ("manager, department, …", "urn:ietf:params:scim:schemas:extension:enterprise:2.0:User:…", "Optional"),
        ]))
        (effects("In Entra ID", &[
            ("Assigned", "Looked up by the matching attribute; created if not found"),
            ("Changed", "Patched"),
            ("Unassigned, blocked, soft-deleted", "Disabled (active: false); still found"),
            ("Restored", "Active again, the same user"),
            ("Hard-deleted, thirty days later", "Deleted"),
        ]))
        p.quiet { "The first cycle takes its time; later ones run every 20 to 40 minutes. If a job is in quarantine, correct what its message names, and choose Restart provisioning." }
    }
}

pub(super) fn pingone(values: &Values) -> Markup {
    html! {
        (copyable("base-url", "SCIM base URL", &values.base_url))
        section.stack aria-labelledby="connect" {
            h2 #connect { "Connect" }
            ol.steps {
                li { p { "In the PingOne admin console: " strong { "Integrations" } " › " strong { "Provisioning" } " › " strong { "+" } " › " strong { "New Connection" } " › " em { "Identity Store" } " › " strong { "SCIM Outbound" } " › " strong { "Next" } ". Give it a name › " strong { "Next" } "." } }
                li {
                    p { strong { "Configure Authentication" } "." }
                    (fields("With a bearer token", &[
                        ("SCIM BASE URL", code(&values.base_url)),
                        ("Users Resource", code("/Users")),
                        ("Groups Resource", html! { "Blank, or " code { "/Groups" } " if you want groups" }),
                        ("SCIM Version", code("2.0")),
                        ("Authentication Method", html! { "OAuth 2 Bearer Token" }),
                        ("OAuth Access Token", the_token()),
                        ("Auth Type Header", code("Bearer")),
                    ]))
                    (fields("Or with client credentials, which give PingOne an access token of one hour at a time", &[
                        ("Authentication Method", html! { "OAuth 2 Client Credentials" }),
                        ("OAuth Token Request", code(&values.token_url)),
                        ("OAuth Client ID", html! { "The API token's id, " code { "tok_…" } }),
                        ("OAuth Client Secret", html! { "The API token" }),
                    ]))
                }
                li { p { strong { "Test Connection" } " › " strong { "Next" } "." } }
                li {
                    p { strong { "Configure Preferences" } "." }
                    (fields("Preferences", &[
                        ("User Filter Expression", code("userName Eq \"%s\"")),
                        ("User Identifier", html! { code { "userName" } ", or " code { "workEmail" } " with " code { "workEmail Eq \"%s\"" } }),
                        ("Allow users to be created / updated / disabled", html! { "On" }),
                        ("Remove action", html! { "Disable, or Delete" }),
                    ]))
                }
                li { p { strong { "Save" } ", and switch the connection on." } }
                li { p { strong { "Integrations" } " › " strong { "Provisioning" } " › " strong { "+" } " › " strong { "New Rule" } ": source PingOne, target the new connection; a user filter (such as " em { "Enabled" } " equals " em { "true" } "); the mapping below; switch the rule on." } }
            }
        }
        (mapping("PingOne", &[
            ("Email Address", "userName", "Required; unique without case"),
            ("Email Address", "workEmail", ""),
            ("Given Name", "givenName", ""),
            ("Family Name", "familyName", ""),
            ("Enabled", "active", ""),
            ("Timezone", "timeZone", "Optional; an IANA name, Etc/UTC if absent or blank"),
        ]))
        (effects("In PingOne", &[
            ("A user enters the rule's scope", "Looked up by the filter expression; created if not found"),
            ("A user changes", "Read, then replaced as a whole (PUT)"),
            ("A user leaves the scope", "Disabled (active: false) or deleted, as you chose"),
        ]))
        p.quiet { "PingOne cannot clear an attribute: what it does not map it does not send." }
    }
}

pub(super) fn onelogin(values: &Values) -> Markup {
    html! {
        (copyable("base-url", "SCIM Base URL", &values.base_url))
        section.stack aria-labelledby="connect" {
            h2 #connect { "Connect" }
            ol.steps {
                li { p { "In OneLogin's administration: " strong { "Applications" } " › " strong { "Add App" } " › search " em { "SCIM" } " › " strong { "SCIM Provisioner with SAML (SCIM v2 Enterprise)" } ", or " em { "SCIM v2 Core" } " › a display name › " strong { "Save" } "." } }
                li {
                    p { strong { "Configuration" } "." }
                    (fields("Configuration", &[
                        ("SCIM Base URL", code(&values.base_url)),
                        ("SCIM JSON Template", html! { "The one below" }),
                        ("SCIM Bearer Token", the_token()),
                    ]))
                    (copyable("template", "SCIM JSON Template", ONELOGIN_TEMPLATE))
                    p { "API Connection: " strong { "Enable" } "; then " strong { "Save" } "." }
                }
                li { p { strong { "Provisioning" } " › " em { "Enable provisioning" } ". Leave " em { "Create user" } ", " em { "Delete user" } " and " em { "Update user" } " unchecked under " em { "Require admin approval" } ", or approve each under " strong { "Users" } " › " strong { "Provisioning" } ". Choose what happens to users that are deleted in OneLogin › " strong { "Save" } "." } }
                li { p { strong { "Parameters" } ": " em { "SCIM Username" } " to " em { "Email" } ". For groups: " em { "Groups" } " › " em { "Include in User Provisioning" } " › " strong { "Save" } ", and " strong { "More Actions" } " › " strong { "Refresh Entitlements" } "." } }
                li { p { strong { "Access" } ", or " strong { "Users" } " › a user › " strong { "Applications" } ": give the application to one person, and look at " a href="/console/users" { "Users" } " here." } }
            }
        }
        (mapping("OneLogin", &[
            ("{$parameters.scimusername}", "userName", "Required; unique without case. SCIM Username = Email"),
            ("{$user.firstname}", "name.givenName", ""),
            ("{$user.lastname}", "name.familyName", ""),
            ("{$user.email}", "emails[type eq \"work\"].value", "Primary"),
            ("{$user.display_name}", "displayName", "Optional"),
        ]))
        (effects("In OneLogin", &[
            ("Access is given", "Looked up by userName; linked if found, else created"),
            ("A user changes", "Replaced as a whole (PUT)"),
            ("Suspended, or access is taken away", "Disabled (active: false) or deleted, as you chose"),
            ("A rule sets groups", "Members are added and removed"),
        ]))
        p.quiet { "Leave " code { "active" } " out of the template. A user that stays " em { "Pending" } " waits for approval in OneLogin." }
    }
}

/// What OneLogin sends of a user.
const ONELOGIN_TEMPLATE: &str = concat!(
    r#"{"schemas":["urn:ietf:params:scim:schemas:core:2.0:User"],"#,
    r#""userName":"{$parameters.scimusername}","#,
    r#""name":{"givenName":"{$user.firstname}","familyName":"{$user.lastname}"},"#,
    r#""displayName":"{$user.display_name}","#,
    r#""emails":[{"value":"{$user.email}","type":"work","primary":true}]}"#,
);

pub(super) fn jumpcloud(values: &Values) -> Markup {
    html! {
        (copyable("base-url", "Base URL", &values.base_url))
        section.stack aria-labelledby="connect" {
            h2 #connect { "Connect" }
            ol.steps {
                li { p { "In the JumpCloud Admin Portal: " strong { "SSO Applications" } " › " strong { "+ Add New Application" } " › " strong { "Custom Application" } " › " em { "Export users to this app (Identity Management)" } "; or open an application of yours." } }
                li {
                    p { "Tab " strong { "Identity Management" } "." }
                    (fields("Identity Management", &[
                        ("SCIM Version", html! { "SCIM 2.0" }),
                        ("Base URL", code(&values.base_url)),
                        ("Token Key", the_token()),
                        ("Test User Email", html! { "An address that none of your users has: the user with it is deleted again" }),
                        ("Enable management of User Groups and Group Membership", html! { "If you want groups" }),
                    ]))
                    p.hint { "With SCIM 1.1 the base URL is " code { (values.base_url) "/v1" } "." }
                }
                li { p { strong { "Test Connection" } ", then " strong { "Activate" } ", then " strong { "Save" } "." } }
                li { p { "Tab " strong { "User Groups" } ": choose the groups whose members are to be provisioned › " strong { "Save" } "." } }
            }
        }
        (mapping("JumpCloud", &[
            ("Company Email, or Username", "userName", "Required; unique without case"),
            ("Company Email", "emails[type eq \"work\"].value", "Primary"),
            ("First Name", "name.givenName", ""),
            ("Last Name", "name.familyName", ""),
            ("Display Name", "displayName", "Optional"),
        ]))
        (effects("In JumpCloud", &[
            ("Activate", "A test user and a test group are made and removed again"),
            ("A user is in a chosen group", "Looked up by userName; linked if found, else created"),
            ("A user changes", "Replaced as a whole (PUT), or patched"),
            ("A user leaves the groups, is suspended or deleted", "Disabled (active: false), or deleted"),
        ]))
        p.quiet { "If the activation fails on the group, switch groups on in " a href="/console/settings" { "Settings" } " here, or group management off in JumpCloud." }
    }
}

pub(super) fn google(values: &Values) -> Markup {
    html! {
        p { "Google describes this for applications of its own catalogue that have " em { "auto-provisioning" } ". If yours is not one of them, let another identity provider provision." }
        (copyable("base-url", "Endpoint URL", &values.base_url))
        section.stack aria-labelledby="connect" {
            h2 #connect { "Connect" }
            ol.steps {
                li { p { "In the Google Admin console: " strong { "Apps" } " › " strong { "Web and mobile apps" } " › the application, with single sign-on set up." } }
                li {
                    p { strong { "Auto-provisioning" } " › " strong { "Configure auto-provisioning" } "." }
                    (fields("Auto-provisioning", &[
                        ("Access token, or API token", the_token()),
                        ("Endpoint URL", code(&values.base_url)),
                    ]))
                }
                li { p { strong { "Continue" } " › the mapping below; what has a star has to be mapped › " strong { "Continue" } "." } }
                li { p { "Restrict it to groups, if you want to › " strong { "Continue" } "." } }
                li { p { strong { "Deprovisioning" } ": after which time an account is deleted › " strong { "Finish" } "; then turn " strong { "Auto-provisioning" } " on." } }
            }
        }
        (mapping("Google directory", &[
            ("Primary email", "userName", "Required; unique without case"),
            ("Primary email", "emails[type eq \"work\"].value", ""),
            ("First name", "name.givenName", ""),
            ("Last name", "name.familyName", ""),
            ("Job title", "title", "Optional"),
        ]))
        (effects("In Google Workspace", &[
            ("The application is turned on for a user", "Looked up; created if not found"),
            ("A user changes", "Changed"),
            ("Suspended, turned off, or deleted", "Disabled (active: false) or deleted, after the time that was chosen"),
        ]))
        p.quiet { "Google publishes no description of its requests. If one is refused, " a href="/console/activity" { "Activity" } " shows it." }
    }
}

pub(super) fn other(values: &Values) -> Markup {
    let curl = format!(
        "curl -H \"Authorization: Bearer $TOKEN\" {}/Users?count=2",
        values.base_url
    );
    html! {
        (copyable("base-url", "Base URL", &values.base_url))
        section.stack aria-labelledby="connect" {
            h2 #connect { "Connect" }
            (fields("What a client needs", &[
                ("Base URL, SCIM 2.0", html! { code { (values.base_url) } " (or with " code { "/v2" } " at its end)" }),
                ("Base URL, SCIM 1.1", html! { code { (values.base_url) "/v1" } }),
                ("Bearer token", html! { code { "Authorization: Bearer …" } ", with " (the_token()) }),
                ("Basic", html! { "Any user name; the API token as the password" }),
                ("OAuth 2.0 client credentials", html! { "Token URL " code { (values.token_url) } ", client ID the token's id, client secret the API token" }),
            ]))
        }
        section.stack aria-labelledby="try" {
            h2 #try { "A first try" }
            p { "The token in the variable " code { "TOKEN" } ":" }
            (copyable("curl", "Command", &curl))
            p { "The answer is a list of users, also where it is empty." }
        }
    }
}
