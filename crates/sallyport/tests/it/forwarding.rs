//! Near and far ends of connections that stock clients forward, in the hands of the test.

use std::{
    io::{self, Read as _, Write as _},
    net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream},
    sync::{Arc, Mutex},
};

/// Connects to a port of the target through `ssh -D` (RFC 1928: no authentication, an IPv4 address).
/// What was refused is closed; OpenSSH may have said before that it worked.
pub fn through_socks(local: u16, port: u16) -> io::Result<TcpStream> {
    let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, local))?;
    stream.write_all(&[5, 1, 0])?;
    stream.read_exact(&mut [0; 2])?;
    let [high, low] = port.to_be_bytes();
    stream.write_all(&[5, 1, 0, 1, 127, 0, 0, 1, high, low])?;
    stream.read_exact(&mut [0; 10])?;
    Ok(stream)
}

/// A server behind a tap: what passed to it and from it, over all connections.
#[derive(Debug)]
pub struct Tap {
    pub address: SocketAddr,
    to: Arc<Mutex<Vec<u8>>>,
    from: Arc<Mutex<Vec<u8>>>,
}

impl Tap {
    /// Listens before a server.
    pub fn before(server: SocketAddr) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let tap = Self {
            address: listener.local_addr().unwrap(),
            to: Arc::default(),
            from: Arc::default(),
        };
        let (to, from) = (Arc::clone(&tap.to), Arc::clone(&tap.from));
        std::thread::spawn(move || {
            for near in listener.incoming().map_while(Result::ok) {
                let far = TcpStream::connect(server).unwrap();
                let ends = (near.try_clone().unwrap(), far.try_clone().unwrap());
                let (to, from) = (Arc::clone(&to), Arc::clone(&from));
                std::thread::spawn(move || pass(near, far, &to));
                std::thread::spawn(move || pass(ends.1, ends.0, &from));
            }
        });
        tap
    }

    /// How many bytes went to the server and came from it.
    pub fn passed(&self) -> (usize, usize) {
        (
            self.to.lock().unwrap().len(),
            self.from.lock().unwrap().len(),
        )
    }
}

fn pass(mut from: TcpStream, mut to: TcpStream, kept: &Mutex<Vec<u8>>) {
    let mut bytes = [0; 16 * 1024];
    while let Ok(count @ 1..) = from.read(&mut bytes) {
        kept.lock().unwrap().extend_from_slice(&bytes[..count]);
        if to.write_all(&bytes[..count]).is_err() {
            break;
        }
    }
    let _ = to.shutdown(Shutdown::Write);
}
