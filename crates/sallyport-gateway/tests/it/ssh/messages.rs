//! Every SSH message number in every state of a connection: answered as the RFCs say, refused or cut,
//! and never let through.
//!
//! A raw client ([`super::wire`]) says what no library would. Expected are only things that nobody may
//! get, whatever they say first: to be let in, a channel, a process. What is merely odd may be ignored.

use std::path::PathBuf;

use futures_util::future::join_all;
use russh::ChannelMsg;
use sallyport_testkit::effort::rounds;

use super::{
    wire::{self, Closed, Message, Wire, WireKey, number},
    world::{PanicWatch, RawClient, World, within},
};
use crate::control::PATIENCE;

/// Where a connection is when something odd is said on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    BeforeVersion,
    BeforeKeyExchange,
    DuringKeyExchange,
    BeforeNewKeys,
    BeforeAuthentication,
    DuringAuthentication,
    AfterAuthentication,
    InChannel,
    DuringRekey,
    AfterClose,
}

impl State {
    const ALL: [Self; 10] = [
        Self::BeforeVersion,
        Self::BeforeKeyExchange,
        Self::DuringKeyExchange,
        Self::BeforeNewKeys,
        Self::BeforeAuthentication,
        Self::DuringAuthentication,
        Self::AfterAuthentication,
        Self::InChannel,
        Self::DuringRekey,
        Self::AfterClose,
    ];

    const fn is_let_in(self) -> bool {
        matches!(
            self,
            Self::AfterAuthentication | Self::InChannel | Self::DuringRekey | Self::AfterClose
        )
    }

    /// What may be answered in this state, to anything at all.
    fn may_answer(self, answer: u8) -> bool {
        use number::{
            CHANNEL_CLOSE, CHANNEL_DATA, CHANNEL_EOF, CHANNEL_FAILURE, CHANNEL_OPEN_CONFIRMATION,
            CHANNEL_OPEN_FAILURE, CHANNEL_REQUEST, DISCONNECT, ECDH_REPLY, EXT_INFO, KEXINIT,
            NEWKEYS, REQUEST_FAILURE, SERVICE_ACCEPT, USERAUTH_FAILURE, USERAUTH_PK_OK,
            WINDOW_ADJUST,
        };
        let is_transport = matches!(answer, DISCONNECT..=4 | EXT_INFO);
        let is_exchange = matches!(answer, KEXINIT | NEWKEYS | ECDH_REPLY);
        is_transport
            || is_exchange
            || match self {
                Self::BeforeVersion
                | Self::BeforeKeyExchange
                | Self::DuringKeyExchange
                | Self::BeforeNewKeys => false,
                Self::BeforeAuthentication => answer == SERVICE_ACCEPT,
                Self::DuringAuthentication => {
                    // 60 is also a question at the keyboard; neither lets anybody in.
                    matches!(answer, USERAUTH_FAILURE | USERAUTH_PK_OK | SERVICE_ACCEPT)
                }
                Self::AfterAuthentication | Self::AfterClose => matches!(
                    answer,
                    REQUEST_FAILURE
                        | CHANNEL_OPEN_CONFIRMATION
                        | CHANNEL_OPEN_FAILURE
                        | CHANNEL_FAILURE
                        | CHANNEL_CLOSE
                ),
                Self::InChannel | Self::DuringRekey => matches!(
                    answer,
                    REQUEST_FAILURE
                        | CHANNEL_OPEN_CONFIRMATION
                        | CHANNEL_OPEN_FAILURE
                        | WINDOW_ADJUST
                        | CHANNEL_DATA
                        | CHANNEL_EOF
                        | CHANNEL_CLOSE
                        | CHANNEL_REQUEST
                        | CHANNEL_FAILURE
                ),
            }
    }
}

/// How what is said is spoiled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Form {
    WellFormed,
    Truncated,
    Bare,
    Oversized,
}

impl Form {
    const ALL: [Self; 4] = [
        Self::WellFormed,
        Self::Truncated,
        Self::Bare,
        Self::Oversized,
    ];

    fn apply(self, mut message: Vec<u8>) -> Vec<u8> {
        match self {
            Self::WellFormed => {}
            Self::Truncated => message.truncate(1 + message.len() / 2),
            Self::Bare => message.truncate(1),
            Self::Oversized => message.resize(200 * 1024, 0xff),
        }
        message
    }
}

/// A command that would leave a trace.
struct Trap {
    marker: PathBuf,
    key: WireKey,
}

impl Trap {
    fn command(&self) -> String {
        format!("touch {}", self.marker.display())
    }

    /// The message of this number, as it would be said where it belongs.
    fn well_formed(&self, number: u8, wire: &Wire, channel: u32) -> Vec<u8> {
        let message = Message::new(number);
        let on_channel = message.clone().number(channel);
        match number {
            number::DISCONNECT => message.number(11).text("bye").text("").0,
            number::IGNORE => message.text("nothing").0,
            number::UNIMPLEMENTED => message.number(3).0,
            4 => message.byte(1).text("debug").text("").0,
            number::SERVICE_REQUEST | number::SERVICE_ACCEPT => message.text("ssh-connection").0,
            number::EXT_INFO => message.number(1).text("server-sig-algs").text("none").0,
            number::KEXINIT => wire.proposal(),
            number::ECDH_INIT | number::ECDH_REPLY => message.text([9; 32]).0,
            // A key that may sign in, without a signature: an offer, never a proof (A7).
            number::USERAUTH_REQUEST => {
                wire::key_request("root@web-1", 0, "ssh-ed25519", &self.key.blob()).0
            }
            number::USERAUTH_FAILURE => message.text("publickey").byte(1).0,
            number::USERAUTH_PK_OK => message.text("ssh-ed25519").text(self.key.blob()).0,
            number::INFO_RESPONSE => message.number(1).text("123456").0,
            number::GLOBAL_REQUEST => {
                let forward = message.text("tcpip-forward").byte(1);
                forward.text("127.0.0.1").number(0).0
            }
            number::CHANNEL_OPEN => wire::open_session(),
            number::CHANNEL_OPEN_CONFIRMATION => {
                on_channel.number(0).number(1 << 20).number(32_768).0
            }
            number::CHANNEL_OPEN_FAILURE => on_channel.number(1).text("no").text("").0,
            number::WINDOW_ADJUST => on_channel.number(1 << 20).0,
            number::CHANNEL_DATA => on_channel.text(self.command() + "\n").0,
            number::EXTENDED_DATA => on_channel.number(1).text(self.command()).0,
            number::CHANNEL_REQUEST => wire::exec(channel, &self.command()),
            number::CHANNEL_EOF
            | number::CHANNEL_CLOSE
            | number::CHANNEL_SUCCESS
            | number::CHANNEL_FAILURE => on_channel.0,
            _ => message.text([number; 32]).0,
        }
    }

    /// A connection in a state, and the gateway's number of its channel, where it has one.
    async fn reach(&self, state: State, world: &World) -> Result<(Wire, u32), Closed> {
        let (gateway, user) = (world.gateway, "root@web-1");
        let mut channel = 0;
        let wire = match state {
            State::BeforeVersion => Wire::connect(gateway).await,
            State::BeforeKeyExchange | State::DuringKeyExchange | State::BeforeNewKeys => {
                let mut wire = Wire::connect(gateway).await;
                wire.exchange_versions().await?;
                wire.receive_proposal().await?;
                let ours = wire.proposal();
                if state != State::BeforeKeyExchange {
                    wire.send(&ours).await?;
                }
                if state == State::BeforeNewKeys {
                    let init = Message::new(number::ECDH_INIT).text([9; 32]).0;
                    wire.ask(&init, &[number::NEWKEYS]).await?;
                }
                wire
            }
            State::BeforeAuthentication => Wire::keyed(gateway).await?,
            State::DuringAuthentication => {
                let mut wire = Wire::keyed(gateway).await?;
                wire.begin_authentication().await?;
                let offer = wire::key_request(user, 0, "ssh-ed25519", &self.key.blob()).0;
                wire.ask(&offer, &[number::USERAUTH_PK_OK]).await?;
                wire
            }
            State::AfterAuthentication => Wire::admitted(gateway, user, &self.key).await?,
            State::InChannel | State::DuringRekey | State::AfterClose => {
                let mut wire = Wire::admitted(gateway, user, &self.key).await?;
                channel = wire.open_channel().await?;
                let (said, answer) = match state {
                    State::InChannel => (wire::exec(channel, "cat"), number::CHANNEL_SUCCESS),
                    State::DuringRekey => (wire.proposal(), number::KEXINIT),
                    _ => {
                        let close = Message::new(number::CHANNEL_CLOSE).number(channel);
                        (close.0, number::CHANNEL_CLOSE)
                    }
                };
                wire.ask(&said, &[answer]).await?;
                wire
            }
        };
        Ok((wire, channel))
    }
}

/// Says something and hears what is answered, until the connection is closed or, where that is asked
/// for, an honest question is answered. The second value is whether it is still open.
async fn probe(wire: &mut Wire, said: &[u8], asks_on: bool) -> (Vec<u8>, bool) {
    let mut answers = Vec::new();
    let mut is_open = wire.send(said).await.is_ok();
    if asks_on {
        let question = Message::new(number::GLOBAL_REQUEST);
        let question = question.text("keepalive@openssh.com").byte(1).0;
        is_open = is_open && wire.send(&question).await.is_ok();
    } else {
        wire.finish().await;
    }
    while let Ok(answer) = wire.receive().await {
        let first = answer.first().copied().unwrap_or_default();
        answers.push(first);
        if asks_on && first == number::REQUEST_FAILURE {
            return (answers, is_open);
        }
        // It waits for the rest of a key exchange that will not come.
        if asks_on && first == number::KEXINIT {
            wire.finish().await;
        }
    }
    (answers, false)
}

/// What `future` gives; whoever waits in vain reads for what.
async fn named<T>(what: &str, future: impl Future<Output = T>) -> T {
    match tokio::time::timeout(PATIENCE, future).await {
        Ok(value) => value,
        Err(_) => panic!("it took too long to {what}"),
    }
}

/// Says every number in one state. How often the connection survived.
async fn say_everything(trap: &Trap, world: &World, state: State) -> usize {
    let place = State::ALL.iter().position(|one| *one == state).unwrap();
    let asks_on = state.is_let_in() && state != State::DuringRekey;
    let (mut survived, mut kept) = (0, None);
    for number in 1..=255_u8 {
        for turn in 0..rounds(1).min(Form::ALL.len()) {
            let form = Form::ALL[(usize::from(number) + place + turn) % Form::ALL.len()];
            let what = format!("{number} {form:?} in {state:?}");
            let (mut wire, channel) = match kept.take() {
                Some(kept) => kept,
                None => named(&what, trap.reach(state, world)).await.unwrap(),
            };
            let said = form.apply(trap.well_formed(number, &wire, channel));
            let (answers, is_open) = named(&what, probe(&mut wire, &said, asks_on)).await;
            for answer in &answers {
                assert!(
                    state.may_answer(*answer),
                    "{what} was answered by {answer} ({answers:?})"
                );
            }
            if is_open {
                survived += 1;
                kept = Some((wire, channel));
            }
        }
    }
    survived
}

/// F1, F2, O1: 255 numbers in ten states, well-formed and spoiled. Nothing is let through, nothing
/// panics, and honest people notice nothing. Each number in one form at effort 1, in four at effort 4.
#[tokio::test(flavor = "multi_thread")]
async fn given_any_message_in_any_state_then_nothing_gets_through() {
    let panics = PanicWatch::start();
    let key = WireKey::generate();
    let world = World::with(|rules| {
        rules.keys.insert(key.line(), "alice".parse().unwrap());
    })
    .await;
    let marker = world.path("marker");
    let trap = Trap { marker, key };
    // Somebody honest, before, during and after.
    let honest = RawClient::signed_in(&world).await;
    let mut conversation = honest.handle.channel_open_session().await.unwrap();
    conversation.exec(true, "cat").await.unwrap();
    let outside = State::ALL.into_iter().filter(|state| !state.is_let_in());
    join_all(outside.map(|state| say_everything(&trap, &world, state))).await;
    world.control.told(|told| {
        // Of the honest person; nobody else came as far as that.
        assert_eq!((told.proofs.len(), told.opens.len()), (1, 1));
    });
    let inside = State::ALL.into_iter().filter(|state| state.is_let_in());
    let survived = join_all(inside.map(|state| say_everything(&trap, &world, state))).await;
    let survived: usize = survived.into_iter().sum();
    assert!(
        survived > 255,
        "{survived} connections survived: little was learned"
    );
    assert!(!trap.marker.exists(), "a command was run");

    conversation.data(&b"still here"[..]).await.unwrap();
    let echoed = within(PATIENCE, async {
        loop {
            match conversation.wait().await {
                Some(ChannelMsg::Data { data }) => return data,
                Some(_) => {}
                None => panic!("the honest session is gone"),
            }
        }
    });
    assert_eq!(&echoed.await[..], b"still here");
    panics.assert_none();
}

/// F2: with strict key exchange, a message that does not belong there ends the first one, also those
/// that may be said at any other time (Terrapin, CVE-2023-48795).
#[tokio::test(flavor = "multi_thread")]
async fn given_an_optional_message_in_the_first_key_exchange_then_the_connection_ends() {
    let world = World::new().await;
    for optional in [number::IGNORE, number::UNIMPLEMENTED, 4] {
        for is_late in [false, true] {
            let mut wire = Wire::connect(world.gateway).await;
            wire.exchange_versions().await.unwrap();
            let odd = Message::new(optional).number(0).text("").text("").0;
            let ours = wire.proposal();
            if !is_late {
                wire.send(&odd).await.unwrap();
            }
            wire.send(&ours).await.unwrap();
            if is_late {
                wire.send(&odd).await.unwrap();
            }
            wire.receive_proposal().await.unwrap();
            let agreed = within(PATIENCE, wire.agree(ours)).await;
            assert!(agreed.is_err(), "{optional} late: {is_late}");
        }
    }
}

/// F1: a raw client that keeps to the protocol is served: what the tests above see is not its fault.
#[tokio::test(flavor = "multi_thread")]
async fn given_a_raw_client_that_is_honest_then_it_is_served_through_a_rekey() {
    let key = WireKey::generate();
    let world = World::with(|rules| {
        rules.keys.insert(key.line(), "alice".parse().unwrap());
    })
    .await;
    let mut wire = Wire::admitted(world.gateway, "root@web-1", &key)
        .await
        .unwrap();
    named("exchange keys again", wire.exchange_keys())
        .await
        .unwrap();
    let channel = named("open a channel", wire.open_channel()).await.unwrap();
    wire.send(&wire::exec(channel, "echo in")).await.unwrap();
    let output = wire.receive_any_of(&[number::CHANNEL_DATA]);
    let said = named("read the output", output).await.unwrap();
    let mut rest = &said[5..];
    assert_eq!(wire::take_text(&mut rest).unwrap(), b"in\n");
}
