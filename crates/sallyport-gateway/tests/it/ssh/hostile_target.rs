//! Targets that lie, flood, stall and never end: only their own session suffers.
//!
//! A raw server ([`super::wire`]) plays the target, while an honest session runs beside it in the same
//! gateway. Memory is that of the whole test process, target and clients included: more than the
//! gateway's own.
//!
//! Not here: targets that keep to the protocol and are merely odd (`odd_target`).

use std::{fs, net::SocketAddr, time::Duration};

use russh::{Channel, ChannelMsg, client::Msg};
use sallyport_core::session::EndReason;
use sallyport_testkit::effort::rounds;
use tokio::net::{TcpListener, TcpStream};

use super::{
    wire::{Closed, Message, Side, Wire, WireKey, number, take_text},
    world::{PanicWatch, RawClient, World},
};
use crate::control::{PATIENCE, spawn};

/// What a hostile target does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Trick {
    /// A version line that never ends.
    EndlessVersion,
    /// Lines before the version, without end.
    EndlessLines,
    /// Key exchange begun over and over.
    EndlessProposals,
    /// A packet that is announced as 4 GiB.
    HugePacket,
    /// A packet of no length.
    EmptyPacket,
    /// Banners of 200 KiB before logging in succeeds.
    EndlessBanners,
    /// Messages that may be ignored.
    EndlessIgnores,
    /// Channels to us.
    EndlessChannels,
    /// Questions that must be answered, whose answers nobody reads.
    UnreadAnswers,
    /// A key exchange that is begun and never finished, then output.
    UnfinishedRekey,
    /// Granted requests nobody made.
    EndlessAnswers,
    /// The process ended, many times, and differently.
    EndlessExits,
    /// End of output and close, of this channel and of others.
    CloseStorm,
    /// A window that grows beyond what a number can hold.
    OverflowingWindow,
    /// Packets of at most no bytes, into a window of all bytes.
    NoPackets,
    /// Output on streams that nobody knows.
    UnknownStreams,
    /// More output than any window allows.
    BeyondWindow,
    /// A byte of output, a byte of errors, a byte of output, ...
    AlternatingStreams,
    /// It reads nothing.
    NeverReads,
}

/// What must become of the session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    /// It is ended: the target cannot be used.
    Ends,
    /// The target is held back or ignored; the client ends it.
    GoesOn,
    /// Either, as the one or the other side is faster.
    Either,
}

impl Trick {
    const ALL: [(Self, Fate); 19] = [
        (Self::EndlessVersion, Fate::Ends),
        (Self::EndlessLines, Fate::Ends),
        (Self::EndlessProposals, Fate::Ends),
        (Self::HugePacket, Fate::Ends),
        (Self::EmptyPacket, Fate::Ends),
        (Self::EndlessBanners, Fate::GoesOn),
        (Self::EndlessIgnores, Fate::GoesOn),
        (Self::EndlessChannels, Fate::Ends),
        (Self::UnreadAnswers, Fate::GoesOn),
        (Self::UnfinishedRekey, Fate::Ends),
        (Self::EndlessAnswers, Fate::Either),
        (Self::EndlessExits, Fate::Either),
        (Self::CloseStorm, Fate::Either),
        (Self::OverflowingWindow, Fate::GoesOn),
        (Self::NoPackets, Fate::Ends),
        (Self::UnknownStreams, Fate::GoesOn),
        (Self::BeyondWindow, Fate::GoesOn),
        (Self::AlternatingStreams, Fate::GoesOn),
        (Self::NeverReads, Fate::GoesOn),
    ];
}

/// Bytes that a flood tries to send.
fn flood_bytes() -> usize {
    rounds(24 * 1024 * 1024)
}

/// Small messages that a flood tries to send.
fn flood_messages() -> usize {
    rounds(10_000)
}

/// How long nobody takes anything of a flood until it is held back.
const HELD_BACK: Duration = Duration::from_secs(1);

/// The target; it lives as long as the test's runtime.
struct HostileTarget {
    address: SocketAddr,
    host_key: String,
    done: tokio::sync::mpsc::Receiver<()>,
}

impl HostileTarget {
    async fn start(trick: Trick) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let key = WireKey::generate();
        let host_key = key.line();
        let (sender, done) = tokio::sync::mpsc::channel(1);
        spawn(async move {
            let (stream, _) = listener.accept().await.unwrap();
            let (kept, result) = play(trick, stream, key).await;
            let _ = sender.send(()).await;
            // Open until the test is over: what was begun stays unfinished.
            let _held = (kept, result, listener);
            std::future::pending::<()>().await;
        });
        Self {
            address,
            host_key,
            done,
        }
    }
}

async fn play(trick: Trick, stream: TcpStream, key: WireKey) -> (Wire, Result<(), Closed>) {
    let mut wire = Wire::over(stream, Side::Server(key));
    let played = match before_login(trick, &mut wire).await {
        Ok(true) => after_login(trick, &mut wire).await,
        Ok(false) => Ok(()),
        Err(closed) => Err(closed),
    };
    (wire, played)
}

/// Sends the same over and over, until nobody takes it any more.
async fn flood(wire: &mut Wire, times: usize, piece: &[u8]) -> Result<(), Closed> {
    for _ in 0..times {
        let sending = wire.send_raw(piece);
        if tokio::time::timeout(HELD_BACK, sending)
            .await
            .map_err(|_| Closed)?
            .is_err()
        {
            return Err(Closed);
        }
    }
    Ok(())
}

/// As [`flood`], with packets.
async fn flood_packets(wire: &mut Wire, times: usize, message: &[u8]) -> Result<(), Closed> {
    for _ in 0..times {
        let packet = wire.packet(message);
        flood(wire, 1, &packet).await?;
    }
    Ok(())
}

/// Whether it goes on to logging in.
async fn before_login(trick: Trick, wire: &mut Wire) -> Result<bool, Closed> {
    let piece = vec![b'x'; 64 * 1024];
    match trick {
        Trick::EndlessVersion => {
            wire.send_raw(b"SSH-2.0-").await?;
            flood(wire, flood_bytes() / piece.len(), &piece).await?;
            return Ok(false);
        }
        Trick::EndlessLines => {
            flood(wire, flood_bytes() / 16, b"who goes there\r\n").await?;
            return Ok(false);
        }
        _ => wire.exchange_versions().await?,
    }
    match trick {
        Trick::EndlessProposals => {
            let proposal = wire.proposal();
            flood_packets(wire, flood_messages(), &proposal).await?;
            return Ok(false);
        }
        Trick::HugePacket => {
            wire.send_raw(&u32::MAX.to_be_bytes()).await?;
            flood(wire, flood_bytes() / piece.len(), &piece).await?;
            return Ok(false);
        }
        Trick::EmptyPacket => {
            flood(wire, flood_messages(), &[0; 4]).await?;
            return Ok(false);
        }
        _ => wire.exchange_keys().await?,
    }
    wire.receive_any_of(&[number::SERVICE_REQUEST]).await?;
    let accepted = Message::new(number::SERVICE_ACCEPT).text("ssh-userauth").0;
    wire.send(&accepted).await?;
    wire.receive_any_of(&[number::USERAUTH_REQUEST]).await?;
    if trick == Trick::EndlessBanners {
        let banner = Message::new(53).text(vec![b'x'; 200 * 1024]).text("").0;
        flood_packets(wire, flood_bytes() / banner.len(), &banner).await?;
    }
    wire.send(&[number::USERAUTH_SUCCESS]).await?;
    Ok(true)
}

async fn after_login(trick: Trick, wire: &mut Wire) -> Result<(), Closed> {
    let opening = wire.receive_any_of(&[number::CHANNEL_OPEN]).await?;
    let mut rest = &opening[1..];
    take_text(&mut rest).ok_or(Closed)?;
    let peer = u32::from_be_bytes(rest[..4].try_into().unwrap());
    let (window, packet) = match trick {
        Trick::NoPackets => (u32::MAX, 0),
        Trick::OverflowingWindow => (u32::MAX, 32_768),
        _ => (2 * 1024 * 1024, 32_768),
    };
    let confirmation = Message::new(number::CHANNEL_OPEN_CONFIRMATION)
        .number(peer)
        .number(0)
        .number(window)
        .number(packet)
        .0;
    wire.send(&confirmation).await?;
    wire.receive_any_of(&[number::CHANNEL_REQUEST]).await?;
    let on = |number: u8| Message::new(number).number(peer);
    wire.send(&on(number::CHANNEL_SUCCESS).0).await?;
    wire.send(&on(number::CHANNEL_DATA).text("ready").0).await?;
    let output = vec![b'x'; 32 * 1024];
    let many = flood_messages();
    match trick {
        Trick::EndlessIgnores => {
            let ignored = Message::new(number::IGNORE).text("nothing").0;
            flood_packets(wire, many, &ignored).await
        }
        Trick::EndlessChannels => {
            for turn in 0..many {
                let kind = ["session", "x11", "forwarded-tcpip", "unheard-of"][turn % 4];
                let open = Message::new(number::CHANNEL_OPEN).text(kind);
                let open = open.number(u32::try_from(turn).unwrap());
                let open = open.number(1 << 20).number(32_768);
                let open = match kind {
                    "x11" => open.text("a").number(1),
                    "forwarded-tcpip" => open.text("a").number(1).text("b").number(2),
                    _ => open,
                };
                flood_packets(wire, 1, &open.0).await?;
                if turn % 64 == 63 {
                    wire.receive().await?;
                }
            }
            Ok(())
        }
        Trick::UnreadAnswers => {
            let question = Message::new(number::GLOBAL_REQUEST);
            let question = question.text("keepalive@openssh.com").byte(1).0;
            flood_packets(wire, many * 20, &question).await
        }
        Trick::UnfinishedRekey => {
            let proposal = wire.proposal();
            wire.send(&proposal).await?;
            let data = on(number::CHANNEL_DATA).text(&output).0;
            flood_packets(wire, flood_bytes() / output.len(), &data).await
        }
        Trick::EndlessAnswers => flood_packets(wire, many, &on(number::CHANNEL_SUCCESS).0).await,
        Trick::EndlessExits => {
            for turn in 0..many {
                let exit = on(number::CHANNEL_REQUEST);
                let exit = match turn % 2 {
                    0 => exit.text("exit-status").byte(0).number(7),
                    _ => exit
                        .text("exit-signal")
                        .byte(0)
                        .text("\u{1b}[2J".repeat(40))
                        .byte(1)
                        .text("x".repeat(1_000))
                        .text(""),
                };
                flood_packets(wire, 1, &exit.0).await?;
            }
            Ok(())
        }
        Trick::CloseStorm => {
            for turn in 0..many {
                let channel = if turn % 2 == 0 { peer } else { u32::MAX };
                let number = [number::CHANNEL_EOF, number::CHANNEL_CLOSE][(turn / 2) % 2];
                flood_packets(wire, 1, &Message::new(number).number(channel).0).await?;
            }
            Ok(())
        }
        Trick::OverflowingWindow => {
            let grow = on(number::WINDOW_ADJUST).number(u32::MAX).0;
            flood_packets(wire, many, &grow).await
        }
        Trick::UnknownStreams => {
            for code in [0, 2, 77, u32::MAX] {
                let data = on(number::EXTENDED_DATA).number(code).text("unheard-of");
                wire.send(&data.0).await?;
            }
            wire.send(&on(number::CHANNEL_DATA).text("after").0).await
        }
        Trick::BeyondWindow => {
            let data = on(number::CHANNEL_DATA).text(&output).0;
            flood_packets(wire, flood_bytes() / output.len(), &data).await
        }
        Trick::AlternatingStreams => {
            for _ in 0..many {
                let mut packets = Vec::new();
                for _ in 0..40 {
                    packets.extend(wire.packet(&on(number::CHANNEL_DATA).text("o").0));
                    let error = on(number::EXTENDED_DATA).number(1).text("e").0;
                    packets.extend(wire.packet(&error));
                }
                flood(wire, 1, &packets).await?;
            }
            Ok(())
        }
        _ => Ok(()),
    }
}

/// The most memory this process had since [`forget_peak`].
fn peak_bytes() -> usize {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmHWM:"));
    let kib: usize = line
        .and_then(|line| line.split_ascii_whitespace().nth(1)?.parse().ok())
        .unwrap();
    kib * 1024
}

/// Lets the peak begin where it is now; returns that.
fn forget_peak() -> usize {
    fs::write("/proc/self/clear_refs", "5").unwrap();
    peak_bytes()
}

/// What `future` gives; whoever waits in vain reads for what.
async fn named<T>(what: &str, future: impl Future<Output = T>) -> T {
    match tokio::time::timeout(PATIENCE, future).await {
        Ok(value) => value,
        Err(_) => panic!("it took too long: {what}"),
    }
}

async fn echoes(channel: &mut Channel<Msg>, word: &str) {
    channel.data(word.as_bytes()).await.unwrap();
    let mut seen = Vec::new();
    while seen.len() < word.len() {
        match channel.wait().await {
            Some(ChannelMsg::Data { data }) => seen.extend_from_slice(&data),
            Some(_) => {}
            None => panic!("the honest session is gone"),
        }
    }
    assert_eq!(seen, word.as_bytes());
}

/// Most that a session may cost while its target plays a trick: what the promise is for the gateway,
/// what the client and the target of this process hold of the same bytes, and what allocators keep.
const MEMORY_BYTES_MAX: usize = 24 * 1024 * 1024;

/// F8, F5, O1: whatever a target does, memory stays bounded, nothing panics, its own session alone ends
/// or goes on, and an honest one beside it notices nothing. Floods of 24 MiB and 10,000 messages at
/// effort 1.
#[tokio::test(flavor = "multi_thread")]
async fn given_a_hostile_target_then_its_own_session_alone_suffers() {
    let panics = PanicWatch::start();
    let world = World::new().await;
    let honest = RawClient::signed_in(&world).await;
    let mut beside = honest.handle.channel_open_session().await.unwrap();
    beside.exec(true, "cat").await.unwrap();
    named("the honest session begins", echoes(&mut beside, "begun")).await;

    // What one trick leaves to the allocator must not hide what the next one takes.
    let before = forget_peak();
    let (mut ended, mut wrong, mut wasteful) = (0, Vec::new(), Vec::new());
    for (trick, fate) in Trick::ALL {
        let mut target = HostileTarget::start(trick).await;
        world.control.rule(|rules| {
            rules.address = target.address.to_string();
            rules.host_keys = vec![target.host_key.clone()];
            rules.credential = r#"{"kind":"password","password":"correct horse"}"#.to_owned();
        });
        forget_peak();
        let client = RawClient::signed_in(&world).await;
        let channel = client.handle.channel_open_session().await.unwrap();
        channel.exec(true, "anything").await.unwrap();
        if trick == Trick::NeverReads {
            let zeros = bytes::Bytes::from(vec![0; 256 * 1024]);
            for _ in 0..flood_bytes() / zeros.len() {
                let sending = channel.data_bytes(zeros.clone());
                if tokio::time::timeout(HELD_BACK, sending).await.is_err() {
                    break;
                }
            }
        }
        named(&format!("{trick:?} is played"), target.done.recv()).await;
        let grown = peak_bytes().saturating_sub(before);
        if grown > MEMORY_BYTES_MAX {
            wasteful.push((trick, grown));
        }
        named(
            &format!("{trick:?} beside"),
            echoes(&mut beside, "still here"),
        )
        .await;

        if fate != Fate::Ends {
            // The client ends it, and that works whatever state the target is in.
            drop(channel);
            drop(client);
        }
        ended += 1;
        let closed = named(
            &format!("{trick:?} ends"),
            world.control.until(|told| {
                (told.closed.len() >= ended).then(|| told.closed.last().cloned().unwrap())
            }),
        )
        .await;
        let is_ended = matches!(
            closed.reason,
            EndReason::TargetUnreachable | EndReason::TargetClosed
        );
        let is_left = closed.reason == EndReason::ClientClosed;
        let is_expected = match fate {
            Fate::Ends => is_ended,
            Fate::GoesOn => is_left,
            Fate::Either => is_ended || is_left,
        };
        wrong.extend((!is_expected).then_some((trick, closed.reason)));
        assert!(closed.is_recording_complete, "{trick:?}");
    }
    named("the honest session ends", echoes(&mut beside, "to the end")).await;
    assert_eq!(world.control.told(|told| told.closed.len()), ended);
    assert_eq!((wrong, wasteful), (Vec::new(), Vec::new()));
    panics.assert_none();
}
