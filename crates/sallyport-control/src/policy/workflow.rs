//! Bring a bundle into force, bring an earlier one back, explain a decision.

use std::{collections::BTreeMap, net::IpAddr};

use sallyport_core::{
    authz::{Question, RequestFacts},
    event::{Actor, Event, EventName, Events},
    inventory::{AccountName, TargetName},
    principal::{Authentication, AuthenticationStrength, Person},
};
use sallyport_policy::{Bundle, BundleError, Explanation, default_bundle};

use super::store::{self, VersionRow};
use crate::{
    access::facts::{self, Asker},
    kernel::{
        control::Control,
        database::{Database, StoreError},
        transaction::Transaction,
    },
};

/// Why a bundle did not come into force.
#[derive(Debug, thiserror::Error)]
pub enum PolicyChangeError {
    /// It does not load.
    #[error("{0}")]
    Bundle(BundleError),
    /// Its own tests fail.
    #[error("{failed} of the bundle's tests fail: {first}")]
    TestsFail {
        /// How many.
        failed: usize,
        /// The first, with what was not as expected.
        first: String,
    },
    /// It is in force already.
    #[error("this bundle is in force already")]
    Unchanged,
    /// There is no such version.
    #[error("there is no such version")]
    NoVersion,
    /// The store failed.
    #[error("reach the store")]
    Store(#[from] StoreError),
}

/// Loads the bundle in force; a new store gets the default one, on record.
///
/// # Errors
/// [`PolicyChangeError`].
pub async fn load(
    db: &Database,
    clock: &dyn sallyport_core::time::Clock,
) -> Result<Bundle, PolicyChangeError> {
    let mut reader = db.read().await?;
    if let Some((_, text)) = store::latest(&mut reader).await? {
        return Bundle::from_text(&text).map_err(PolicyChangeError::Bundle);
    }
    drop(reader);
    let bundle = default_bundle().map_err(PolicyChangeError::Bundle)?;
    let mut tx = db.begin(Actor::System).await?;
    let row = VersionRow {
        version: 1,
        hash: bundle.hash().to_string(),
        applied_by: "system".to_owned(),
        applied_at: clock.now(),
    };
    store::insert(&mut tx, &row, &bundle.to_text()).await?;
    tx.commit(Events::one(applied_event(
        EventName::PolicyApplied,
        &row,
        None,
    )))
    .await?;
    Ok(bundle)
}

/// Checks files as a bundle that may come into force: it loads and passes its own tests.
///
/// # Errors
/// [`PolicyChangeError::Bundle`] or [`PolicyChangeError::TestsFail`].
pub fn check(files: &BTreeMap<String, String>) -> Result<Bundle, PolicyChangeError> {
    let bundle = Bundle::load(files).map_err(PolicyChangeError::Bundle)?;
    let report = bundle.test();
    let first = report
        .outcomes
        .iter()
        .find(|outcome| !outcome.failures.is_empty());
    match first {
        None => Ok(bundle),
        Some(outcome) => Err(PolicyChangeError::TestsFail {
            failed: report.failed(),
            first: format!(
                "{}: {}: {}",
                outcome.file,
                outcome.name,
                outcome.failures.join("; ")
            ),
        }),
    }
}

/// Brings a bundle into force: here, at every gateway, for live sessions too.
///
/// # Errors
/// [`PolicyChangeError`].
pub async fn apply(
    control: &Control,
    by: &Person,
    files: &BTreeMap<String, String>,
) -> Result<VersionRow, PolicyChangeError> {
    let bundle = check(files)?;
    let _turn = control.policies().change().await;
    let mut tx = control.db().begin(Actor::Person(by.id.clone())).await?;
    let (row, event) = stage(&mut tx, control, by, &bundle, EventName::PolicyApplied)
        .await?
        .ok_or(PolicyChangeError::Unchanged)?;
    tx.commit(Events::one(event)).await?;
    enforce(control, bundle);
    Ok(row)
}

/// Stores a bundle as the next version; joins the caller's transaction. Nothing when it is in force
/// already. After the commit, [`enforce`] it.
pub(crate) async fn stage(
    tx: &mut Transaction,
    control: &Control,
    by: &Person,
    bundle: &Bundle,
    name: EventName,
) -> Result<Option<(VersionRow, Event)>, StoreError> {
    let previous = store::latest(tx).await?.map(|(row, _)| row);
    if previous
        .as_ref()
        .is_some_and(|previous| previous.hash == bundle.hash().0)
    {
        return Ok(None);
    }
    let row = VersionRow {
        version: previous
            .as_ref()
            .map_or(1, |previous| previous.version.saturating_add(1)),
        hash: bundle.hash().to_string(),
        applied_by: by.name.to_string(),
        applied_at: control.now(),
    };
    store::insert(tx, &row, &bundle.to_text()).await?;
    let event = applied_event(name, &row, previous.as_ref());
    Ok(Some((row, event)))
}

/// Puts a staged and committed bundle into force.
pub(crate) fn enforce(control: &Control, bundle: Bundle) {
    let text = bundle.to_text();
    control.policies().replace(bundle);
    control.live().push_bundle(&text);
}

fn applied_event(name: EventName, row: &VersionRow, previous: Option<&VersionRow>) -> Event {
    Event::new(name, &row.hash)
        .with("bundle", &row.hash)
        .with("version", row.version)
        .with("previous", previous.map(|previous| &previous.hash))
}

/// Brings an earlier version back, as a new version.
///
/// # Errors
/// [`PolicyChangeError`].
pub async fn rollback(
    control: &Control,
    by: &Person,
    version: Option<u64>,
) -> Result<VersionRow, PolicyChangeError> {
    let _turn = control.policies().change().await;
    let mut tx = control.db().begin(Actor::Person(by.id.clone())).await?;
    let (current, _) = store::latest(&mut tx)
        .await?
        .ok_or(PolicyChangeError::NoVersion)?;
    let wanted = version.unwrap_or_else(|| current.version.saturating_sub(1));
    let (_, text) = store::by_version(&mut tx, wanted)
        .await?
        .ok_or(PolicyChangeError::NoVersion)?;
    let bundle = Bundle::from_text(&text).map_err(PolicyChangeError::Bundle)?;
    let (row, event) = stage(&mut tx, control, by, &bundle, EventName::PolicyRolledBack)
        .await?
        .ok_or(PolicyChangeError::Unchanged)?;
    tx.commit(Events::one(event)).await?;
    enforce(control, bundle);
    Ok(row)
}

/// What somebody asks to have explained.
#[derive(Clone, Debug)]
pub struct Asked {
    /// Who would ask.
    pub person: Person,
    /// Account.
    pub account: AccountName,
    /// Target.
    pub target: TargetName,
    /// Opening a session instead of asking for access.
    pub is_session: bool,
    /// Reason that would be given.
    pub reason: String,
    /// Ticket that would be given.
    pub ticket: Option<String>,
}

/// Explains what would be decided now, for somebody signed in with two factors from this address.
/// Nothing when there is no such account.
///
/// # Errors
/// [`StoreError`].
pub async fn explain(
    control: &Control,
    asked: &Asked,
    ip: IpAddr,
) -> Result<Option<(Question, Explanation)>, StoreError> {
    let now = control.now();
    let asker = Asker {
        person_id: asked.person.id.clone(),
        authentication: Authentication {
            strength: AuthenticationStrength::MultiFactor,
            at: now,
            methods: vec!["password".to_owned(), "totp".to_owned()],
        },
        ip,
    };
    let mut reader = control.db().read().await?;
    let Some(facts) = facts::load(&mut reader, &asker, &asked.account, &asked.target, now).await?
    else {
        return Ok(None);
    };
    let question = if asked.is_session {
        facts.about_session()
    } else {
        facts.about_request(RequestFacts {
            id: None,
            reason: asked.reason.clone(),
            ticket: asked.ticket.clone(),
            duration_s: 3_600,
            is_break_glass: false,
        })
    };
    let explanation = control.policies().current().explain(&question);
    Ok(Some((question, explanation)))
}
