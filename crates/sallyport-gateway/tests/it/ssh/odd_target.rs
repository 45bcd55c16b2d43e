//! A target that does what OpenSSH's server never would, or only for accounts this machine lacks.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use russh::{
    Channel, ChannelId, MethodKind, MethodSet, Sig,
    keys::{Algorithm, PrivateKey, key::safe_rng},
    server::{self, Auth, ChannelOpenHandle, Msg, Response, Session},
};
use tokio::{net::TcpListener, sync::watch};

use super::world::within;
use crate::control::{PATIENCE, Rules, spawn};

/// What is odd about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Oddity {
    /// Tells which signal came, and dies of another.
    Signals,
    /// Lets somebody in once, as with a certificate that has run out since, and keeps its channels open.
    LetsInOnce,
    /// Sends until nobody takes any more for two seconds, or [`FLOOD_BYTES_MAX`] are gone.
    Floods,
    /// Opens channels of its own to the gateway.
    OpensChannels,
    /// Opens channels of its own to the gateway until it is cut off.
    OpensWithoutEnd,
    /// Listens where it is asked to, and opens channels for that place and for others.
    Listens,
    /// Takes the password by keyboard-interactive only.
    AsksForPassword,
    /// Asks for it without hiding it.
    AsksOpenly,
    /// Asks for it, and for more.
    AsksTwice,
}

/// What a flood is given up at.
pub(crate) const FLOOD_BYTES_MAX: usize = 64 * 1024 * 1024;

/// The target; it lives as long as the test's runtime.
pub(crate) struct OddTarget {
    address: SocketAddr,
    host_key: String,
    flooded: watch::Receiver<Option<usize>>,
    opened: watch::Receiver<Option<String>>,
}

impl OddTarget {
    pub(crate) async fn start(oddity: Oddity) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let key = PrivateKey::random(&mut safe_rng(), Algorithm::Ed25519).unwrap();
        let host_key = key.public_key().to_openssh().unwrap();
        let config = Arc::new(server::Config {
            keys: vec![key],
            methods: MethodSet::from(&[MethodKind::Password, MethodKind::KeyboardInteractive][..]),
            auth_rejection_time: std::time::Duration::ZERO,
            ..server::Config::default()
        });
        let logins = Arc::new(AtomicUsize::new(0));
        let (floods, flooded) = watch::channel(None);
        let (opens, opened) = watch::channel(None);
        spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let logins = Arc::clone(&logins);
                let side = Side {
                    oddity,
                    logins,
                    floods: floods.clone(),
                    opens: opens.clone(),
                    channel: None,
                };
                if let Ok(running) = server::run_stream(Arc::clone(&config), stream, side).await {
                    spawn(async move {
                        let _ = running.await;
                    });
                }
            }
        });
        Self {
            address,
            host_key,
            flooded,
            opened,
        }
    }

    /// Waits until a flood is over. How many bytes were taken of it.
    pub(crate) async fn flooded(&mut self) -> usize {
        let flooded = self.flooded.wait_for(Option::is_some);
        within(PATIENCE, flooded).await.unwrap().unwrap()
    }

    /// Waits until it has opened what it opens. What came of each, a word.
    pub(crate) async fn opened(&mut self) -> String {
        let opened = self.opened.wait_for(Option::is_some);
        within(PATIENCE, opened).await.unwrap().clone().unwrap()
    }

    /// Makes it the target.
    pub(crate) fn serve(&self, rules: &mut Rules) {
        rules.address = self.address.to_string();
        rules.host_keys = vec![self.host_key.clone()];
        rules.credential = r#"{"kind":"password","password":"correct horse"}"#.to_owned();
    }
}

struct Side {
    oddity: Oddity,
    logins: Arc<AtomicUsize>,
    floods: watch::Sender<Option<usize>>,
    opens: watch::Sender<Option<String>>,
    channel: Option<Channel<Msg>>,
}

impl Side {
    fn ask(&self) -> Auth {
        let prompts: &'static [(std::borrow::Cow<'static, str>, bool)] = match self.oddity {
            Oddity::AsksForPassword => &[(std::borrow::Cow::Borrowed("Password: "), false)],
            Oddity::AsksOpenly => &[(std::borrow::Cow::Borrowed("Password: "), true)],
            _ => &[
                (std::borrow::Cow::Borrowed("Password: "), false),
                (std::borrow::Cow::Borrowed("Mother's name: "), false),
            ],
        };
        Auth::Partial {
            name: "".into(),
            instructions: "".into(),
            prompts: prompts.into(),
        }
    }
}

impl server::Handler for Side {
    type Error = russh::Error;

    async fn auth_password(&mut self, user: &str, password: &str) -> Result<Auth, russh::Error> {
        let is_right = user == "root" && password == "correct horse";
        Ok(match self.oddity {
            Oddity::Signals
            | Oddity::OpensChannels
            | Oddity::OpensWithoutEnd
            | Oddity::Listens
            | Oddity::Floods
                if is_right =>
            {
                Auth::Accept
            }
            Oddity::LetsInOnce if is_right && self.logins.fetch_add(1, Ordering::SeqCst) == 0 => {
                Auth::Accept
            }
            _ => Auth::reject(),
        })
    }

    async fn auth_keyboard_interactive<'a>(
        &'a mut self,
        _user: &str,
        _submethods: &str,
        response: Option<Response<'a>>,
    ) -> Result<Auth, russh::Error> {
        let Some(mut response) = response else {
            return Ok(self.ask());
        };
        let is_right = response
            .next()
            .is_some_and(|one| &one[..] == b"correct horse");
        Ok(match is_right {
            true => Auth::Accept,
            false => Auth::reject(),
        })
    }

    async fn channel_open_session(
        &mut self,
        channel: Channel<Msg>,
        reply: ChannelOpenHandle,
        _session: &mut Session,
    ) -> Result<(), russh::Error> {
        self.channel = Some(channel);
        reply.accept().await;
        Ok(())
    }

    async fn tcpip_forward(
        &mut self,
        address: &str,
        port: &mut u32,
        session: &mut Session,
    ) -> Result<bool, russh::Error> {
        let (handle, opens) = (session.handle(), self.opens.clone());
        let (address, port) = (address.to_owned(), *port);
        spawn(async move {
            let at = async |address: &str, port| {
                let opening = handle.channel_open_forwarded_tcpip(address, port, "10.0.0.9", 9);
                opening.await.is_ok()
            };
            let opened = [
                at(&address, port + 1).await,
                at("10.0.0.1", 22).await,
                handle.channel_open_agent().await.is_ok(),
                handle
                    .channel_open_forwarded_streamlocal("/run/app.sock")
                    .await
                    .is_ok(),
                handle.channel_open_session().await.is_ok(),
                handle.channel_open_x11("10.0.0.9", 6_000).await.is_ok(),
                at(&address, port).await,
            ];
            let words = opened.map(|is_open| if is_open { "opened" } else { "refused" });
            opens.send_replace(Some(words.join(" ")));
        });
        Ok(true)
    }

    async fn exec_request(
        &mut self,
        channel: ChannelId,
        _command: &[u8],
        session: &mut Session,
    ) -> Result<(), russh::Error> {
        session.channel_success(channel)?;
        match self.oddity {
            Oddity::Signals => {}
            Oddity::Floods => {
                let (channel, floods) = (self.channel.take().unwrap(), self.floods.clone());
                spawn(async move {
                    let zeros = bytes::Bytes::from(vec![0; 64 * 1024]);
                    let mut taken = 0;
                    while taken < FLOOD_BYTES_MAX {
                        let sending = channel.data_bytes(zeros.clone());
                        match tokio::time::timeout(Duration::from_secs(2), sending).await {
                            Ok(Ok(())) => taken += zeros.len(),
                            Ok(Err(_)) | Err(_) => break,
                        }
                    }
                    floods.send_replace(Some(taken));
                });
            }
            Oddity::LetsInOnce => session.data(channel, &b"in"[..])?,
            Oddity::OpensWithoutEnd => {
                let (handle, opens) = (session.handle(), self.opens.clone());
                spawn(async move {
                    let mut refused = 0_u32;
                    while let Err(russh::Error::ChannelOpenFailure(_)) =
                        handle.channel_open_agent().await
                    {
                        refused += 1;
                    }
                    opens.send_replace(Some(format!("refused {refused}")));
                });
            }
            Oddity::OpensChannels => {
                let handle = session.handle();
                spawn(async move {
                    let opened = [
                        handle.channel_open_session().await.is_ok(),
                        handle.channel_open_agent().await.is_ok(),
                        handle
                            .channel_open_forwarded_tcpip("127.0.0.1", 22, "127.0.0.1", 1)
                            .await
                            .is_ok(),
                    ];
                    let words = opened.map(|is_open| if is_open { "opened" } else { "refused" });
                    let _ = handle.data(channel, words.join(" ").into_bytes()).await;
                    let _ = handle.exit_status_request(channel, 0).await;
                    let _ = handle.close(channel).await;
                });
            }
            _ => {
                session.exit_status_request(channel, 0)?;
                session.close(channel)?;
            }
        }
        Ok(())
    }

    async fn signal(
        &mut self,
        channel: ChannelId,
        signal: Sig,
        session: &mut Session,
    ) -> Result<(), russh::Error> {
        session.data(channel, format!("got {signal:?}").into_bytes())?;
        session.exit_signal_request(channel, Sig::KILL, false, "killed", "")?;
        session.close(channel)
    }
}
