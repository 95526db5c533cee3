//! What an administrator should put right, each with the sentence that says how: [`Problem`].
//!
//! A problem is found where a request is refused, here or in a gateway, or where so much had to be
//! tolerated that something gets lost.

use std::borrow::Cow;

use shared::link::{Notice, NoticeKind};
use shared::{ScimError, ScimType, Timestamp, TokenId};

use crate::coded::told;
use crate::scim::ResourceKind;
use crate::scim::tolerance::{Note, Tolerance};
use crate::store::activity::{Entry, Finding, Operation};

told! {
    /// Something that is not right in how a client is set up. In its sentence, `{subject}` stands for
    /// what it is about and `{base}` for the tenant's base URL.
    Problem {
        /// A token of this region at the host of another one.
        WrongRegion = "wrongRegion",
            "The identity provider uses the base URL of the region '{subject}', and the data of this tenant lives here. Set its base URL to {base}";
        /// A token whose time is over.
        Expired = "expiredToken",
            "The API token has expired and is still in use. Create a new one, or rotate it before it ends, and put that into the identity provider.";
        /// A token that was revoked.
        Revoked = "revokedToken",
            "The API token was revoked and is still in use. Put a live API token into the identity provider.";
        /// The operator has suspended the tenant.
        Suspended = "tenantSuspended",
            "The tenant is suspended, and nothing is provisioned until its operator resumes it.";
        /// A path that does not exist.
        UnknownPath = "unknownPath",
            "The identity provider calls a path that does not exist. Set its base URL to {base} with nothing behind it, neither /Users nor a version of its own.";
        /// A path of SCIM 1.1 where SCIM 2.0 is spoken.
        Scim11Path = "scim11Path",
            "The identity provider speaks SCIM 1.1 at the base URL of SCIM 2.0. Set it to SCIM 2.0, or set its base URL to {base}/v1";
        /// A body of SCIM 1.1 where SCIM 2.0 is spoken.
        Scim11Body = "scim11Body",
            "The identity provider writes SCIM 1.1 at the base URL of SCIM 2.0, so what it reads is of SCIM 2.0. Set it to SCIM 2.0, or set its base URL to {base}/v1";
        /// A method that the endpoint does not have.
        Method = "wrongMethod",
            "The identity provider uses a method that the endpoint does not have ({subject}). Choose PUT or PATCH for updates in its settings.";
        /// A token for administration, used for provisioning.
        AdminToken = "adminTokenForProvisioning",
            "An API token for administration is used for provisioning. Create one with the scope scim and put that into the identity provider.";
        /// A token for provisioning, used for administration.
        ScimToken = "provisioningTokenForAdministration",
            "An API token for provisioning is used for administration. Create one with the scope admin for that.";
        /// More requests than the tenant may make.
        TooMany = "tooManyRequests",
            "The identity provider sends more than this tenant may. Let it send less at a time, or ask the operator for higher limits.";
        /// An address from which the token may not be used.
        Network = "networkRefused",
            "The API token is used from an address that its networks do not allow. Add the network of the identity provider to the networks of the API token.";
        /// A compressed body.
        BodyEncoding = "compressedBody",
            "The identity provider compresses what it sends. Switch compression off in it, or in the proxy before it.";
        /// A body over the limit.
        BodyTooLarge = "bodyTooLarge",
            "The identity provider sends more in one request than is taken. Let it send members of a group in parts.";
        /// A client id that is not that of the API token.
        ClientId = "clientId",
            "The client id for access tokens is not the id of the API token that is given as the secret. Copy both from the same API token.";
        /// Groups where there are none.
        GroupsOff = "groupsOff",
            "The identity provider provisions groups, and groups are switched off in this tenant. Switch group provisioning off in the identity provider, or ask the operator to switch groups on.";
        /// A userName that is no e-mail address.
        UserNameNotEmail = "userNameNotEmail",
            "userName must be an e-mail address in this tenant. Map userName to the attribute that holds the e-mail address, such as mail or email.";
        /// A value that another resource has.
        Taken = "valueTaken",
            "Another resource already has the value that was sent for '{subject}'. Let the identity provider look for the existing one by '{subject}' before it creates one, or remove the duplicate there.";
        /// A resource that is not here.
        UnknownResource = "unknownResource",
            "The identity provider changes a user or group that is not here any more. Restart its provisioning, so that it looks for everybody again.";
        /// A filter on an unknown attribute.
        UnknownFilterAttribute = "unknownFilterAttribute",
            "The identity provider looks for users by an attribute that does not exist here. Choose userName, externalId or the e-mail address as the attribute that it matches by.";
        /// A filter that cannot be read.
        Filter = "filter",
            "The identity provider sends a filter that cannot be read. Use a filter such as userName eq \"value\".";
        /// A filter that is too dear.
        FilterTooWide = "filterTooWide",
            "The identity provider looks for resources by an attribute that has no index. Match by userName, externalId or the e-mail address, or have the attribute indexed.";
        /// An attribute that is required.
        Missing = "missingAttribute",
            "'{subject}' is required and was not sent. Map it in the identity provider.";
        /// A value that does not fit.
        Value = "invalidValue",
            "The value that was sent for '{subject}' does not fit. Correct the mapping of '{subject}' in the identity provider.";
        /// An attribute that the service provider sets.
        ReadOnly = "readOnly",
            "The identity provider wants to set '{subject}', which is set by the service. Remove it from the mapping.";
        /// A body that is no SCIM.
        Syntax = "invalidSyntax",
            "The identity provider sends a body that is no SCIM request. Check the template of its requests, if it has one.";
        /// A media type that is none of ours.
        MediaType = "mediaType",
            "The identity provider sends a body of another media type. Set its content type to application/scim+json.";
        /// An attribute that is dropped.
        UnknownAttribute = "unknownAttribute",
            "The attribute '{subject}' is not known here and is dropped. Remove it from the mapping, or add it in an extension schema of this tenant.";
        /// A schema that is dropped.
        UnknownSchema = "unknownSchema",
            "The schema '{subject}' is not known in this tenant and what is sent of it is dropped. Remove it from the mapping, or add it as an extension schema of this tenant.";
    }
}

impl Problem {
    /// How to put it right.
    #[must_use]
    pub fn sentence(self, subject: &str, base_url: &str) -> String {
        let sentence = self.template().replace("{base}", base_url);
        sentence.replace("{subject}", subject)
    }

    fn of_notice(kind: NoticeKind) -> Option<Self> {
        Some(match kind {
            NoticeKind::WrongRegion => Self::WrongRegion,
            NoticeKind::Expired => Self::Expired,
            NoticeKind::Revoked => Self::Revoked,
            NoticeKind::Suspended => Self::Suspended,
            NoticeKind::UnknownPath => Self::UnknownPath,
            NoticeKind::Scim11Path => Self::Scim11Path,
            NoticeKind::Method => Self::Method,
            NoticeKind::AdminToken => Self::AdminToken,
            NoticeKind::ScimToken => Self::ScimToken,
            NoticeKind::TooMany => Self::TooMany,
            NoticeKind::Network => Self::Network,
            NoticeKind::BodyEncoding => Self::BodyEncoding,
            NoticeKind::BodyTooLarge => Self::BodyTooLarge,
            NoticeKind::ClientId => Self::ClientId,
            NoticeKind::Other => return None,
        })
    }
}

/// What a gateway's notice finds.
#[must_use]
pub fn of_notice(notice: &Notice, token: TokenId) -> Option<Finding> {
    let problem = Problem::of_notice(notice.kind)?;
    let route = format!("{} {}", notice.method, notice.route);
    let subject = match problem {
        Problem::WrongRegion => notice.region.as_str(),
        Problem::Method => &route,
        _ => "",
    };
    Some(Finding {
        kind: Cow::Borrowed(problem.code()),
        token,
        subject: subject.into(),
        first: notice.at,
        last: notice.at,
        times: notice.times.into(),
        request_id: notice.request_id.as_str().into(),
        route: route.into(),
    })
}

/// What a request finds: why it was refused, and what had to be dropped.
pub(super) fn of_entry(
    entry: &Entry,
    error: Option<&ScimError>,
    method: &str,
    route: &str,
    at: Timestamp,
) -> Vec<Finding> {
    let refused = error.and_then(|error| problem_of(entry, error));
    let dropped = entry.tolerated.as_slice().iter().filter_map(lost_in);
    refused
        .into_iter()
        .chain(dropped)
        .map(|(problem, subject)| Finding {
            kind: Cow::Borrowed(problem.code()),
            token: entry.token.clone(),
            subject: subject.into(),
            first: at,
            last: at,
            times: 1,
            request_id: entry.request_id.clone(),
            route: format!("{method} {}", below_base(route)).into(),
        })
        .collect()
}

/// A route's template without the part that is the node's own.
fn below_base(route: &str) -> &str {
    route.splitn(4, '/').nth(3).unwrap_or(route)
}

/// What is lost with what was tolerated.
fn lost_in(note: &Note) -> Option<(Problem, &str)> {
    Some(match note.what {
        Tolerance::UnknownAttribute => (Problem::UnknownAttribute, &*note.subject),
        Tolerance::UnknownSchema => (Problem::UnknownSchema, &*note.subject),
        Tolerance::Scim11Body => (Problem::Scim11Body, ""),
        _ => return None,
    })
}

/// Why a request was refused, and what that is about: our errors name it between quotes.
fn problem_of<'e>(entry: &Entry, error: &'e ScimError) -> Option<(Problem, &'e str)> {
    let named = error.detail.split('\'').nth(1).unwrap_or_default();
    let is_write = !matches!(entry.operation, Operation::Get | Operation::Query);
    let problem = match (error.status, error.scim_type) {
        (501, _) if entry.kind == Some(ResourceKind::Group) => {
            return Some((Problem::GroupsOff, ""));
        }
        (404, _) if is_write && entry.kind.is_some() => {
            return Some((Problem::UnknownResource, ""));
        }
        (415, _) => return Some((Problem::MediaType, "")),
        (_, Some(ScimType::Uniqueness)) => Problem::Taken,
        (_, Some(ScimType::Mutability)) => Problem::ReadOnly,
        (_, Some(ScimType::InvalidSyntax)) => return Some((Problem::Syntax, "")),
        (_, Some(ScimType::TooMany)) if entry.operation == Operation::Query => {
            return Some((Problem::FilterTooWide, ""));
        }
        (_, Some(ScimType::InvalidFilter)) if error.detail.contains("does not have") => {
            return Some((Problem::UnknownFilterAttribute, ""));
        }
        (_, Some(ScimType::InvalidFilter)) => return Some((Problem::Filter, "")),
        (_, Some(ScimType::InvalidValue)) if named.is_empty() => return None,
        (_, Some(ScimType::InvalidValue)) if error.detail.contains("e-mail address in this") => {
            return Some((Problem::UserNameNotEmail, ""));
        }
        (_, Some(ScimType::InvalidValue)) if error.detail.ends_with("is required.") => {
            Problem::Missing
        }
        (_, Some(ScimType::InvalidValue)) => Problem::Value,
        _ => return None,
    };
    Some((problem, named))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_problem_has_a_name_and_a_sentence_of_its_own() {
        let mut sentences = Vec::new();
        for problem in Problem::ALL {
            assert_eq!(Problem::from_code(problem.code()), Some(*problem));
            let sentence = problem.sentence("x", "https://base");
            assert!(!sentence.contains('{'), "{sentence}");
            assert!(!sentences.contains(&sentence), "{sentence}");
            sentences.push(sentence);
        }
    }

    #[test]
    fn a_route_is_told_without_the_nodes_own_part() {
        assert_eq!(below_base("/scim/v2/Users/{id}"), "Users/{id}");
        assert_eq!(below_base(""), "");
    }
}
