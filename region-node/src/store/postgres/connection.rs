//! How PostgreSQL is reached: the pools, what every connection is set to, and the two calls that
//! all statements on a tenant's rows go through.
//!
//! The connections live on a runtime of their own, so that none of them depends on the thread of
//! the server that happened to open it.

use std::future::Future;
use std::pin::Pin;
use std::time::Duration;

use deadpool_postgres::{
    ClientWrapper, Connect, Hook, HookError, Manager, ManagerConfig, Object, Pool, RecyclingMethod,
    Runtime,
};
use futures_util::future::try_join;
use tokio::runtime::Handle;
use tokio::task::JoinHandle;
use tokio_postgres::types::ToSql;
use tokio_postgres::{Client, Config, Row, Statement};

use super::error::PostgresError;
use super::tls::Tls;
use crate::store::StoreError;

/// The schema that holds everything of ours.
pub(super) const SCHEMA: &str = "meridian";
/// Who statements run as where the role that connects would be above row-level security.
pub(super) const SERVING_ROLE: &str = "meridian_serving";
/// Says whose rows the connection is after, in a form that the policies read.
const SET_SCOPE: &str = "SELECT set_config('meridian.tenant', $1::bigint::text, false)";

/// Parameters of a statement.
pub(super) type Parameters<'p> = &'p [&'p (dyn ToSql + Sync)];

/// How long is waited for a connection, free or new.
const LONGEST_WAIT: Duration = Duration::from_secs(5);

/// A bounded pool of connections that are all set alike.
#[derive(Clone)]
pub(super) struct Connections {
    pub(super) pool: Pool,
    pub(super) tls: Tls,
    /// Leaves the tenant out of the statements, to see that row-level security stands alone.
    #[cfg(test)]
    pub(super) blind: bool,
}

impl Connections {
    /// A pool of at most `size`; nothing is connected yet. Each begins with the statements of
    /// `session`.
    pub(super) fn new(
        config: &Config,
        tls: &Tls,
        session: String,
        runtime: &Handle,
        size: usize,
    ) -> Result<Self, StoreError> {
        let connect = OnRuntime(runtime.clone(), tls.clone());
        let recycling = ManagerConfig {
            recycling_method: RecyclingMethod::Fast,
        };
        let manager = Manager::from_connect(config.clone(), connect, recycling);
        let hook = Hook::async_fn(move |client: &mut ClientWrapper, _| {
            let session = session.clone();
            Box::pin(async move {
                client
                    .batch_execute(&session)
                    .await
                    .map_err(HookError::Backend)
            })
        });
        let pool = Pool::builder(manager)
            .max_size(size)
            .runtime(Runtime::Tokio1)
            .wait_timeout(Some(LONGEST_WAIT))
            .create_timeout(Some(LONGEST_WAIT))
            .recycle_timeout(Some(LONGEST_WAIT))
            .post_create(hook)
            .build()
            .map_err(|_| StoreError::Corrupt("a pool without a runtime"))?;
        Ok(Self {
            pool,
            tls: tls.clone(),
            #[cfg(test)]
            blind: false,
        })
    }

    /// A connection, for one transaction or one statement.
    pub(super) async fn take(&self) -> Result<Lease, StoreError> {
        Ok(Lease {
            client: Some(self.pool.get().await?),
            tls: self.tls.clone(),
            is_idle: false,
        })
    }

    /// Rows of a statement that is after one tenant's rows. One round trip.
    pub(super) async fn query_scoped(
        &self,
        tenant: i64,
        sql: &str,
        parameters: Parameters<'_>,
    ) -> Result<Vec<Row>, StoreError> {
        let mut lease = self.take().await?;
        let rows = lease
            .query_scoped(tenant, &self.sql(sql), parameters)
            .await?;
        lease.give_back();
        Ok(rows)
    }

    /// The same for a statement that is made for this one time, and not kept prepared.
    pub(super) async fn query_scoped_once(
        &self,
        tenant: i64,
        sql: &str,
        parameters: Parameters<'_>,
    ) -> Result<Vec<Row>, StoreError> {
        let mut lease = self.take().await?;
        let statement = lease.client()?.prepare(&self.sql(sql)).await?;
        let rows = lease.run_scoped(tenant, &statement, parameters).await?;
        lease.give_back();
        Ok(rows)
    }

    /// Rows of a statement on what the region as a whole owns: tenants and tokens.
    pub(super) async fn query(
        &self,
        sql: &str,
        parameters: Parameters<'_>,
    ) -> Result<Vec<Row>, StoreError> {
        let mut lease = self.take().await?;
        let client = lease.client()?;
        let statement = client.prepare_cached(sql).await?;
        let rows = client.query(&statement, parameters).await?;
        lease.give_back();
        Ok(rows)
    }

    /// The statement as it is sent.
    #[cfg(not(test))]
    #[expect(clippy::unused_self, reason = "its twin in tests needs it")]
    fn sql<'s>(&self, sql: &'s str) -> std::borrow::Cow<'s, str> {
        std::borrow::Cow::Borrowed(sql)
    }

    #[cfg(test)]
    fn sql<'s>(&self, sql: &'s str) -> std::borrow::Cow<'s, str> {
        if !self.blind {
            return std::borrow::Cow::Borrowed(sql);
        }
        // The head row, `t` and `h`, is found by the tenant whatever happens; all others lose it.
        let mut sql = sql.to_owned();
        for alias in ["r", "a", "m", "g", "c", "i", "e", "d"] {
            let predicate = format!("{alias}.tenant = $1");
            sql = sql.replace(&predicate, "$1::bigint IS NOT NULL");
        }
        std::borrow::Cow::Owned(sql)
    }
}

/// A connection on loan. It goes back only when it is known to be idle: one whose answer nobody
/// waited for is closed, and PostgreSQL notices.
pub(super) struct Lease {
    client: Option<Object>,
    tls: Tls,
    is_idle: bool,
}

impl Lease {
    pub(super) fn client(&mut self) -> Result<&mut Object, StoreError> {
        self.client
            .as_mut()
            .ok_or(StoreError::Corrupt("a lease lost its connection"))
    }

    /// As [`Connections::query_scoped`], on this connection.
    pub(super) async fn query_scoped(
        &mut self,
        tenant: i64,
        sql: &str,
        parameters: Parameters<'_>,
    ) -> Result<Vec<Row>, StoreError> {
        let statement = self.client()?.prepare_cached(sql).await?;
        self.run_scoped(tenant, &statement, parameters).await
    }

    async fn run_scoped(
        &mut self,
        tenant: i64,
        statement: &Statement,
        parameters: Parameters<'_>,
    ) -> Result<Vec<Row>, StoreError> {
        let client = self.client()?;
        let scope = client.prepare_cached(SET_SCOPE).await?;
        let tenant: [&(dyn ToSql + Sync); 1] = [&tenant];
        // Sent in this order, in one go.
        let scoped = client.query(&scope, &tenant);
        let (_, rows) = try_join(scoped, client.query(statement, parameters)).await?;
        Ok(rows)
    }

    /// Says that nothing is under way on it: the next one can have it.
    pub(super) fn give_back(mut self) {
        self.is_idle = true;
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        if let (Some(client), false) = (self.client.take(), self.is_idle) {
            let cancel = client.cancel_token();
            drop(Object::take(client));
            if let Ok(runtime) = Handle::try_current() {
                let tls = self.tls.clone();
                // A scan that nobody waits for any more need not run to its end.
                runtime.spawn(async move { drop(tls.cancel(&cancel).await) });
            }
        }
    }
}

type Connected = Result<(Client, JoinHandle<()>), tokio_postgres::Error>;
type Connecting<'c> = Pin<Box<dyn Future<Output = Connected> + Send + 'c>>;

/// Opens connections on one runtime, whichever thread asks for them.
struct OnRuntime(Handle, Tls);

impl Connect for OnRuntime {
    fn connect(&self, config: &Config) -> Connecting<'_> {
        let Self(runtime, tls) = self;
        let (runtime, tls, config) = (runtime.clone(), tls.clone(), config.clone());
        Box::pin(async move {
            let inner = runtime.clone();
            let connecting = runtime.spawn(async move {
                let (client, connection) = tls.connect(&config).await?;
                let serving = inner.spawn(async move {
                    if let Err(error) = connection.await {
                        // Its text could quote a statement's values.
                        let error = PostgresError::of(&error);
                        tracing::debug!(
                            error = &error as &(dyn std::error::Error + 'static),
                            "a connection to PostgreSQL ended"
                        );
                    }
                });
                Ok((client, serving))
            });
            match connecting.await {
                Ok(connected) => connected,
                // The runtime is shutting down: the pool's own time limit ends the wait.
                Err(_) => std::future::pending().await,
            }
        })
    }
}

/// What every connection is set to.
pub(super) fn session(statement: Duration, serving_role: bool) -> String {
    let role = if serving_role {
        format!("SET ROLE {SERVING_ROLE};")
    } else {
        String::new()
    };
    // Every statement here is a look-up by an index, or a walk along one, whatever its values are.
    // So plans are made once, for all values, because planning costs more than running; and ways
    // that are good for small tables only are not taken, because a plan that was made while a
    // table was small is kept when it has grown. One process for each statement: a scan must not
    // take the processors from the look-ups of others.
    format!(
        "SET search_path = {SCHEMA};
         SET synchronous_commit = on;
         SET plan_cache_mode = force_generic_plan;
         SET jit = off;
         SET enable_seqscan = off;
         SET enable_bitmapscan = off;
         SET enable_hashjoin = off;
         SET enable_mergejoin = off;
         SET max_parallel_workers_per_gather = 0;
         SET default_transaction_isolation = 'read committed';
         SET statement_timeout = {statement};
         SET idle_in_transaction_session_timeout = {statement};
         {role}",
        statement = statement.as_millis().max(1),
    )
}
