//! The operator API of one region-node, as a client: paths, key, and errors in sentences.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use reqwest::{Body, Method, RequestBuilder, Response, StatusCode};
use rustls::ClientConfig;
use serde_json::{Value, json};
use shared::link::{BASE_URL, OPERATOR_KEY, OPERATOR_PATH};
use shared::tls::{
    IdentityFiles, LiveIdentity, PemError, authorities, client_config, trusting_nobody,
};
use shared::{Clock as _, Dialect, Network, RegionId, Scope, SystemClock, TenantId, TokenId};

/// How long an operator waits for an answer.
const TIMEOUT: Duration = Duration::from_secs(30);
/// How long for a connection, where the answer itself takes as long as there is data.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// After how long of silence the other side is asked whether it is still there.
const KEEPALIVE: Duration = Duration::from_secs(30);

/// What a token is to be.
#[derive(Clone, Copy, Debug)]
pub struct NewToken<'a> {
    /// What the operator calls it.
    pub name: Option<&'a str>,
    /// What it may be used for.
    pub scope: Scope,
    /// What its client speaks where neither path nor body says.
    pub dialect: Dialect,
    /// How long it lives, if not for ever.
    pub expires: Option<Duration>,
    /// From where it may be used; none is from anywhere.
    pub networks: &'a [Network],
}

/// A client of one region's operator API. `Debug` hides the key.
#[derive(Clone)]
pub struct OperatorApi {
    region: Option<RegionId>,
    node: String,
    key: String,
    http: reqwest::Client,
    /// For calls that work on all there is: they take as long as it takes.
    unhurried: reqwest::Client,
    base_url: Option<String>,
}

impl std::fmt::Debug for OperatorApi {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("OperatorApi")
            .field("region", &self.region)
            .field("node", &self.node)
            .finish_non_exhaustive()
    }
}

/// A call of the operator API failed.
#[derive(Debug, thiserror::Error)]
pub enum OperatorApiError {
    /// No answer came.
    #[error("the region-node at {node} does not answer")]
    Unreachable {
        /// Its address.
        node: String,
        /// Why not.
        #[source]
        source: reqwest::Error,
    },
    /// There is no client for the call.
    #[error(transparent)]
    Client(#[from] ClientError),
    /// An encrypted link, and no certificate for it.
    #[error(
        "{node} is an encrypted link: give --ca-file, --certificate-file and --key-file as well"
    )]
    NoCertificate {
        /// Its address.
        node: String,
    },
    /// A certificate, and a link that is not encrypted.
    #[error(
        "{node} is not an encrypted link: write https://, or leave out --ca-file, \
         --certificate-file and --key-file"
    )]
    NotEncrypted {
        /// Its address.
        node: String,
    },
    /// The node does not take the operator key.
    #[error("the region-node at {node} does not accept this operator key")]
    Key {
        /// Its address.
        node: String,
    },
    /// There is no such tenant or token in this region.
    #[error("the region-node says: {detail}")]
    NotFound {
        /// In the node's words.
        detail: String,
    },
    /// The node refused.
    #[error("the region-node refused ({status}): {detail}")]
    Refused {
        /// HTTP status.
        status: u16,
        /// In the node's words.
        detail: String,
    },
    /// The answer is not what the contract says.
    #[error("the region-node at {node} gave an answer that is not of the operator API")]
    Foreign {
        /// Its address.
        node: String,
    },
}

/// Why there is no HTTP client.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// TLS cannot be set up.
    #[error(transparent)]
    Tls(#[from] PemError),
    /// The library refuses.
    #[error("the HTTP client cannot be built")]
    Http(#[from] reqwest::Error),
}

/// What an encrypted link is spoken over: by whom nodes are known, and what we prove ourselves with.
#[derive(Clone, Debug)]
pub struct LinkTlsFiles {
    /// The authorities that sign the nodes' certificates.
    pub ca_file: PathBuf,
    /// Our own certificate and key.
    pub identity: IdentityFiles,
}

impl LinkTlsFiles {
    /// Of the authorities', the certificate's and the key's file; `None` unless all three are given.
    #[must_use]
    pub fn of(files: [&Option<PathBuf>; 3]) -> Option<Self> {
        let [Some(ca_file), Some(certificate_file), Some(key_file)] = files else {
            return None;
        };
        Some(Self {
            ca_file: ca_file.clone(),
            identity: IdentityFiles {
                certificate_file: certificate_file.clone(),
                key_file: key_file.clone(),
            },
        })
    }

    fn client_config(&self) -> Result<ClientConfig, PemError> {
        let identity = LiveIdentity::read(self.identity.clone(), SystemClock.now())?;
        client_config(authorities(&self.ca_file)?, Some(Arc::new(identity)))
    }
}

/// An HTTP client for commands that speaks to this machine: direct, patient, following nothing.
///
/// # Errors
/// When the client cannot be built.
pub fn http_client() -> Result<reqwest::Client, ClientError> {
    Ok(client(trusting_nobody()?).timeout(TIMEOUT).build()?)
}

fn client(tls: ClientConfig) -> reqwest::ClientBuilder {
    reqwest::Client::builder()
        .tls_backend_preconfigured(tls)
        .no_proxy()
        .redirect(reqwest::redirect::Policy::none())
}

impl OperatorApi {
    /// A client of the node at a link address, `https://` where the link is encrypted. `region` is
    /// its name, where it is known.
    ///
    /// # Errors
    /// When the files of `tls` cannot be used, or do not go with the address.
    pub fn new(
        region: Option<RegionId>,
        node: &str,
        key: &str,
        tls: Option<&LinkTlsFiles>,
    ) -> Result<Self, OperatorApiError> {
        let node = node.trim_end_matches('/').to_owned();
        let tls = match (node.starts_with("https://"), tls) {
            (true, None) => return Err(OperatorApiError::NoCertificate { node }),
            (false, Some(_)) => return Err(OperatorApiError::NotEncrypted { node }),
            (true, Some(files)) => files.client_config(),
            (false, None) => trusting_nobody(),
        }
        .map_err(ClientError::Tls)?;
        let http = client(tls.clone()).timeout(TIMEOUT).build();
        let unhurried = client(tls)
            .connect_timeout(CONNECT_TIMEOUT)
            .tcp_keepalive(KEEPALIVE)
            .build();
        let (http, unhurried) = (
            http.map_err(ClientError::Http)?,
            unhurried.map_err(ClientError::Http)?,
        );
        Ok(Self {
            region,
            node,
            key: key.trim().to_owned(),
            http,
            unhurried,
            base_url: None,
        })
    }

    /// The same, with the base URL that the region's clients use: links in exports begin with it.
    #[must_use]
    pub fn with_base_url(mut self, base_url: &str) -> Self {
        self.base_url = Some(base_url.to_owned());
        self
    }

    /// The region's name, where it is known.
    #[must_use]
    pub fn region(&self) -> Option<&RegionId> {
        self.region.as_ref()
    }

    /// The node's address, as it was given.
    #[must_use]
    pub fn node(&self) -> &str {
        &self.node
    }

    /// The region that the node says it is of; `None` if it cannot be told, because the node is of a
    /// release without this call and has no tenant that names its region.
    ///
    /// # Errors
    /// [`OperatorApiError`], as for every call below.
    pub async fn region_of_node(&self) -> Result<Option<RegionId>, OperatorApiError> {
        let answer = match self.call(Method::GET, "/region", None).await {
            Err(OperatorApiError::NotFound { .. }) => {
                match self.list_tenants().await?.into_iter().next() {
                    Some(tenant) => tenant,
                    None => return Ok(None),
                }
            }
            answer => answer?,
        };
        let region = answer.get("region").and_then(Value::as_str);
        let region = region.and_then(|region| RegionId::parse(region).ok());
        region.map(Some).ok_or_else(|| self.foreign())
    }

    /// How the node is: its release, its store, the fingerprints of its keys.
    ///
    /// # Errors
    /// [`OperatorApiError`]; `NotFound` where the node is of a release without this call.
    pub async fn node_status(&self) -> Result<Value, OperatorApiError> {
        self.call(Method::GET, "/node", None).await
    }

    /// Creates a tenant.
    ///
    /// # Errors
    /// [`OperatorApiError`], as for every call below.
    pub async fn create_tenant(&self, name: &str) -> Result<Value, OperatorApiError> {
        self.call(Method::POST, "/tenants", Some(json!({ "name": name })))
            .await
    }

    /// The region's tenants.
    ///
    /// # Errors
    /// [`OperatorApiError`]
    pub async fn list_tenants(&self) -> Result<Vec<Value>, OperatorApiError> {
        let answer = self.call(Method::GET, "/tenants", None).await?;
        self.members(&answer, "tenants")
    }

    /// One tenant.
    ///
    /// # Errors
    /// [`OperatorApiError`]
    pub async fn get_tenant(&self, id: &TenantId) -> Result<Value, OperatorApiError> {
        self.call(Method::GET, &format!("/tenants/{id}"), None)
            .await
    }

    /// Stops serving a tenant.
    ///
    /// # Errors
    /// [`OperatorApiError`]
    pub async fn suspend_tenant(&self, id: &TenantId) -> Result<Value, OperatorApiError> {
        self.call(Method::POST, &format!("/tenants/{id}/suspend"), None)
            .await
    }

    /// Serves a suspended tenant again.
    ///
    /// # Errors
    /// [`OperatorApiError`]
    pub async fn resume_tenant(&self, id: &TenantId) -> Result<Value, OperatorApiError> {
        self.call(Method::POST, &format!("/tenants/{id}/resume"), None)
            .await
    }

    /// Erases a tenant; answers what was erased, and how many rows are left (none).
    ///
    /// # Errors
    /// [`OperatorApiError`]
    pub async fn delete_tenant(&self, id: &TenantId) -> Result<Value, OperatorApiError> {
        self.answer(self.unhurried(Method::DELETE, &format!("/tenants/{id}")))
            .await
    }

    /// A backup of the region, as it comes.
    ///
    /// # Errors
    /// [`OperatorApiError`]
    pub async fn backup(&self) -> Result<Download<'_>, OperatorApiError> {
        self.download(self.unhurried(Method::GET, "/backup")).await
    }

    /// An export of a tenant, as it comes.
    ///
    /// # Errors
    /// [`OperatorApiError`]
    pub async fn export_tenant(&self, id: &TenantId) -> Result<Download<'_>, OperatorApiError> {
        let mut request = self.unhurried(Method::GET, &format!("/tenants/{id}/export"));
        if let Some(base_url) = &self.base_url {
            request = request.header(BASE_URL, base_url);
        }
        self.download(request).await
    }

    /// What a walk along a tenant's audit records finds.
    ///
    /// # Errors
    /// [`OperatorApiError`]
    pub async fn verify_audit(&self, id: &TenantId) -> Result<Value, OperatorApiError> {
        self.answer(self.unhurried(Method::GET, &format!("/tenants/{id}/audit/verify")))
            .await
    }

    /// Restores the region from the bytes of a backup.
    ///
    /// # Errors
    /// [`OperatorApiError`]
    pub async fn restore(
        &self,
        backup: Body,
        replace: bool,
        revoke_tokens: bool,
    ) -> Result<Value, OperatorApiError> {
        let path = format!("/restore?replace={replace}&revoke_tokens={revoke_tokens}");
        self.answer(self.unhurried(Method::POST, &path).body(backup))
            .await
    }

    /// Creates a token. The answer holds the secret, this once.
    ///
    /// # Errors
    /// [`OperatorApiError`]
    pub async fn create_token(
        &self,
        tenant: &TenantId,
        new: NewToken<'_>,
    ) -> Result<Value, OperatorApiError> {
        let mut body = json!({ "scope": new.scope, "dialect": new.dialect });
        insert(&mut body, "name", new.name.map(Value::from));
        insert(
            &mut body,
            "expires_s",
            new.expires.map(|expires| expires.as_secs().into()),
        );
        insert(&mut body, "networks", some_networks(new.networks));
        self.call(
            Method::POST,
            &format!("/tenants/{tenant}/tokens"),
            Some(body),
        )
        .await
    }

    /// A tenant's tokens.
    ///
    /// # Errors
    /// [`OperatorApiError`]
    pub async fn list_tokens(&self, tenant: &TenantId) -> Result<Vec<Value>, OperatorApiError> {
        let answer = self
            .call(Method::GET, &format!("/tenants/{tenant}/tokens"), None)
            .await?;
        self.members(&answer, "tokens")
    }

    /// Creates a token's successor. The answer holds the secret, this once.
    ///
    /// # Errors
    /// [`OperatorApiError`]
    pub async fn rotate_token(
        &self,
        id: &TokenId,
        overlap: Duration,
        expires: Option<Duration>,
        networks: &[Network],
    ) -> Result<Value, OperatorApiError> {
        let mut body = json!({ "overlap_s": overlap.as_secs() });
        insert(
            &mut body,
            "expires_s",
            expires.map(|expires| expires.as_secs().into()),
        );
        insert(&mut body, "networks", some_networks(networks));
        self.call(Method::POST, &format!("/tokens/{id}/rotate"), Some(body))
            .await
    }

    /// Ends a token.
    ///
    /// # Errors
    /// [`OperatorApiError`]
    pub async fn revoke_token(&self, id: &TokenId) -> Result<Value, OperatorApiError> {
        self.call(Method::POST, &format!("/tokens/{id}/revoke"), None)
            .await
    }

    /// The error for an answer that lacks what the contract promises.
    #[must_use]
    pub fn foreign(&self) -> OperatorApiError {
        OperatorApiError::Foreign {
            node: self.node.clone(),
        }
    }

    async fn call(
        &self,
        method: Method,
        path: &str,
        body: Option<Value>,
    ) -> Result<Value, OperatorApiError> {
        let request = self.request(&self.http, method, path);
        self.answer(match body {
            Some(body) => request.json(&body),
            None => request,
        })
        .await
    }

    fn unhurried(&self, method: Method, path: &str) -> RequestBuilder {
        self.request(&self.unhurried, method, path)
    }

    fn request(&self, http: &reqwest::Client, method: Method, path: &str) -> RequestBuilder {
        http.request(method, format!("{}{OPERATOR_PATH}{path}", self.node))
            .header(OPERATOR_KEY, &self.key)
    }

    // The URL holds no more than ids of tenants and tokens; errors lose it all the same.
    fn unreachable(&self, error: reqwest::Error) -> OperatorApiError {
        OperatorApiError::Unreachable {
            node: self.node.clone(),
            source: error.without_url(),
        }
    }

    async fn download(&self, request: RequestBuilder) -> Result<Download<'_>, OperatorApiError> {
        let response = request
            .send()
            .await
            .map_err(|error| self.unreachable(error))?;
        if response.status() == StatusCode::OK {
            return Ok(Download {
                api: self,
                response,
            });
        }
        Err(match self.read(response).await {
            Ok(_odd) => self.foreign(),
            Err(error) => error,
        })
    }

    async fn answer(&self, request: RequestBuilder) -> Result<Value, OperatorApiError> {
        let response = request
            .send()
            .await
            .map_err(|error| self.unreachable(error))?;
        self.read(response).await
    }

    async fn read(&self, response: Response) -> Result<Value, OperatorApiError> {
        let status = response.status();
        let body = response
            .bytes()
            .await
            .map_err(|error| self.unreachable(error))?;
        if status == StatusCode::NO_CONTENT {
            return Ok(Value::Null);
        }
        let Ok(answer) = serde_json::from_slice::<Value>(&body) else {
            return Err(self.foreign());
        };
        if status.is_success() {
            return Ok(answer);
        }
        let detail = answer.get("detail").and_then(Value::as_str);
        let detail = detail.unwrap_or("no reason given").to_owned();
        Err(match status {
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => OperatorApiError::Key {
                node: self.node.clone(),
            },
            StatusCode::NOT_FOUND => OperatorApiError::NotFound { detail },
            status => OperatorApiError::Refused {
                status: status.as_u16(),
                detail,
            },
        })
    }

    fn members(&self, answer: &Value, name: &str) -> Result<Vec<Value>, OperatorApiError> {
        let members = answer.get(name).and_then(Value::as_array);
        members.cloned().ok_or_else(|| self.foreign())
    }
}

/// The bytes of a file that a region-node makes while it sends them.
#[derive(Debug)]
pub struct Download<'a> {
    api: &'a OperatorApi,
    response: Response,
}

impl Download<'_> {
    /// The next bytes; `None` behind the last ones.
    ///
    /// # Errors
    /// [`OperatorApiError::Unreachable`] when the node could not go on.
    pub async fn next(&mut self) -> Result<Option<Vec<u8>>, OperatorApiError> {
        let bytes = self.response.chunk().await;
        let bytes = bytes.map_err(|error| self.api.unreachable(error))?;
        Ok(bytes.map(|bytes| bytes.to_vec()))
    }
}

/// Networks, if there are any. A node that does not know them refuses the member.
fn some_networks(networks: &[Network]) -> Option<Value> {
    (!networks.is_empty()).then(|| json!(networks))
}

fn insert(object: &mut Value, member: &str, value: Option<Value>) {
    if let (Some(object), Some(value)) = (object.as_object_mut(), value) {
        object.insert(member.to_owned(), value);
    }
}
