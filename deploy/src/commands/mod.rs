//! The commands that speak to region-nodes, and how they find them.

use std::future::Future;
use std::io::Write as _;
use std::path::Path;

use shared::RegionId;

use crate::arguments::RemoteArguments;
use crate::error::CommandError;
use crate::local_state;
use crate::operator_api::{OperatorApi, OperatorApiError};

pub mod audit;
pub mod backup;
pub mod config;
pub mod doctor;
pub mod tenant;
pub mod token;

/// The regions that a command may speak to.
#[derive(Clone, Debug)]
pub struct Regions(Vec<OperatorApi>);

impl Regions {
    /// The region at `--endpoint`, or those of the `meridian up` of the data directory; only
    /// `--region`, where that is given: the node at an endpoint is asked whether it is of that one.
    ///
    /// # Errors
    /// When there are none, their operator keys cannot be read, or the node at the endpoint is of
    /// another region.
    pub async fn find(
        remote: &RemoteArguments,
        data_dir: &Path,
        region: Option<&RegionId>,
    ) -> Result<Self, CommandError> {
        if let (Some(endpoint), Some(key_file)) = (&remote.endpoint, &remote.operator_key) {
            let (key, tls) = (read_key(key_file)?, remote.link_tls());
            let api = OperatorApi::new(region.cloned(), endpoint, &key, tls.as_ref())?;
            if let Some(region) = region {
                check_region(&api, region).await?;
            }
            return Ok(Self(vec![api]));
        }
        let state = local_state::find(data_dir)?;
        if let Some(region) = region
            && !state.regions.contains_key(region)
        {
            return Err(CommandError::RegionUnknown {
                region: region.clone(),
                running: state.regions.into_keys().collect(),
            });
        }
        let wanted = state
            .regions
            .into_iter()
            .filter(|(name, _)| region.is_none_or(|r| r == name));
        let regions = wanted.map(|(name, local)| {
            let key = read_key(&local.operator_key_file)?;
            let api = OperatorApi::new(Some(name), &local.node, &key, None)?;
            Ok(api.with_base_url(&local.base_url))
        });
        Ok(Self(regions.collect::<Result<_, CommandError>>()?))
    }

    /// Every region.
    #[must_use]
    pub fn all(&self) -> &[OperatorApi] {
        &self.0
    }

    /// The only region.
    ///
    /// # Errors
    /// When there are several, and the operator must choose.
    pub fn only(&self) -> Result<&OperatorApi, CommandError> {
        match self.0.as_slice() {
            [region] => Ok(region),
            _ => Err(CommandError::RegionNeeded(self.names())),
        }
    }

    /// The answer of the region that knows what the call asks for. A region that cannot answer
    /// stands in nobody's way, unless none of the others knows.
    ///
    /// # Errors
    /// When no region knows, or the one that does refuses.
    pub async fn that_knows<'a, T, F>(
        &'a self,
        what: &'static str,
        call: impl Fn(&'a OperatorApi) -> F,
    ) -> Result<T, CommandError>
    where
        F: Future<Output = Result<T, OperatorApiError>>,
    {
        let mut trouble = None;
        for region in &self.0 {
            match call(region).await {
                Ok(answer) => return Ok(answer),
                Err(OperatorApiError::NotFound { .. }) => {}
                Err(refusal @ OperatorApiError::Refused { .. }) => return Err(refusal.into()),
                Err(error) => trouble = Some(error),
            }
        }
        match trouble {
            Some(error) => Err(error.into()),
            None => Err(CommandError::NotFound {
                what,
                searched: self.names(),
            }),
        }
    }

    fn names(&self) -> Vec<RegionId> {
        self.0
            .iter()
            .filter_map(OperatorApi::region)
            .cloned()
            .collect()
    }
}

/// Data of a region must never come from, or go to, another one because of a wrong address.
async fn check_region(api: &OperatorApi, asked: &RegionId) -> Result<(), CommandError> {
    match api.region_of_node().await? {
        Some(found) if found != *asked => Err(CommandError::OtherRegion {
            node: api.node().to_owned(),
            found,
            asked: asked.clone(),
        }),
        Some(_) => Ok(()),
        None => {
            // If standard error is closed there is nobody to tell.
            let _unheard = writeln!(
                std::io::stderr(),
                "the region-node at {} is of an older release and holds no tenant: it cannot say \
                 whether it is of region {asked}",
                api.node()
            );
            Ok(())
        }
    }
}

fn read_key(path: &Path) -> Result<String, CommandError> {
    std::fs::read_to_string(path).map_err(|source| CommandError::OperatorKey {
        path: path.to_owned(),
        source,
    })
}
