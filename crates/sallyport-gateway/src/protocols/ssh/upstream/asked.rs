//! What this session asked a target to open channels for, on one connection.
//!
//! INVARIANT: nothing is expected that was not asked for and permitted, and only on the connection it
//! was asked on; what is no longer wanted is expected no longer.
//!
//! Not here: asking (`listening`, `relay`), taking the channels (`forward`).

use std::sync::{Mutex, MutexGuard, PoisonError};

use sallyport_core::session::{Operation, OperationKind};

use crate::{protocols::ssh::destination::ListenPlace, session::RunningOperation};

/// A channel that the target may open, as the client is asked to take it.
#[derive(Clone, Debug)]
pub(in crate::protocols::ssh) struct Expected {
    /// What is decided and recorded about it.
    pub(in crate::protocols::ssh) operation: Operation,
    /// The channel's type, as recordings spell it.
    pub(in crate::protocols::ssh) kind: &'static str,
    pub(in crate::protocols::ssh) way: Way,
}

/// Which channel the client is asked to take.
#[derive(Clone, Debug)]
pub(in crate::protocols::ssh) enum Way {
    /// A connection to a port that the target listens on: where, and from whom.
    Address {
        host: String,
        port: u32,
        originator: (String, u32),
    },
    /// A connection to a socket that the target listens on.
    Socket(String),
    /// The client's agent.
    Agent,
}

/// A place where the target listens.
#[derive(Debug)]
pub(super) struct Listener {
    pub(super) place: ListenPlace,
    /// The port it listens on; 0 for a socket.
    pub(super) port: u32,
    /// Its evidence, which ends when the listening does.
    pub(super) running: RunningOperation,
}

/// What was asked for on one connection.
#[derive(Debug, Default)]
pub(super) struct Asked(Mutex<Wanted>);

#[derive(Debug, Default)]
struct Wanted {
    has_agent: bool,
    listeners: Vec<Listener>,
}

impl Asked {
    fn wanted(&self) -> MutexGuard<'_, Wanted> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The agent is asked for from now on.
    pub(super) fn want_agent(&self) {
        self.wanted().has_agent = true;
    }

    /// Whether the agent is asked for.
    pub(super) fn has_agent(&self) -> bool {
        self.wanted().has_agent
    }

    /// A place is listened on from now on.
    pub(super) fn want(&self, listener: Listener) {
        self.wanted().listeners.push(listener);
    }

    /// How many places are listened on.
    pub(super) fn listeners(&self) -> usize {
        self.wanted().listeners.len()
    }

    /// Forgets a place, by what the client calls it.
    pub(super) fn forget(&self, place: &ListenPlace) -> Option<Listener> {
        let mut wanted = self.wanted();
        let found = wanted
            .listeners
            .iter()
            .position(|listener| is_same(listener, place))?;
        Some(wanted.listeners.swap_remove(found))
    }

    /// Whether a place is listened on.
    pub(super) fn has(&self, place: &ListenPlace) -> bool {
        let wanted = self.wanted();
        wanted.listeners.iter().any(|one| is_same(one, place))
    }

    /// What a connection to a port of the target is expected for.
    pub(super) fn address(
        &self,
        connected_host: &str,
        connected_port: u32,
        originator: (String, u32),
    ) -> Option<Expected> {
        let wanted = self.wanted();
        let on_port = || {
            wanted.listeners.iter().filter_map(|one| match &one.place {
                ListenPlace::Address {
                    client_host, host, ..
                } if one.port == connected_port => Some((one, client_host, host)),
                _ => None,
            })
        };
        // A target names the place as it was asked for; some name the address that was connected to,
        // which is the same place as long as one listener has the port.
        let (listener, client_host, _) = on_port()
            .find(|(_, _, host)| *host == connected_host)
            .or_else(|| on_port().next().filter(|_| on_port().count() == 1))?;
        Some(Expected {
            operation: listener.place.operation(),
            kind: "forwarded-tcpip",
            way: Way::Address {
                host: client_host.clone(),
                port: connected_port,
                originator,
            },
        })
    }

    /// What a connection to a socket of the target is expected for.
    pub(super) fn socket(&self, connected_path: &str) -> Option<Expected> {
        let wanted = self.wanted();
        wanted.listeners.iter().find_map(|one| match &one.place {
            ListenPlace::Socket { client_path, path } if path == connected_path => Some(Expected {
                operation: one.place.operation(),
                kind: "forwarded-streamlocal",
                way: Way::Socket(client_path.clone()),
            }),
            _ => None,
        })
    }

    /// What a connection to the agent is expected for.
    pub(super) fn agent(&self) -> Option<Expected> {
        self.has_agent().then(|| Expected {
            operation: Operation {
                kind: OperationKind::ForwardAgent,
                detail: "auth-agent".to_owned(),
                facts: None,
            },
            kind: "auth-agent",
            way: Way::Agent,
        })
    }
}

/// Whether `place` is what the client calls `listener`: by the port asked for or the one it was given.
fn is_same(listener: &Listener, place: &ListenPlace) -> bool {
    match (&listener.place, place) {
        (
            ListenPlace::Address { host, port, .. },
            ListenPlace::Address {
                host: named,
                port: named_port,
                ..
            },
        ) => host == named && (port == named_port || listener.port == u32::from(*named_port)),
        (ListenPlace::Socket { path, .. }, ListenPlace::Socket { path: named, .. }) => {
            path == named
        }
        _ => false,
    }
}
