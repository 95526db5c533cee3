//! [`Asked`]: what both programs can be asked for on the command line, and the look at a running one
//! that containers need, whose images hold nothing else that could take it.
//!
//! What never lives here: starting anything.

use std::ffi::OsString;
use std::io::{self, Read as _, Write as _};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream};
use std::path::PathBuf;
use std::time::Duration;

/// How long a look waits, for a connection and for each part of the answer.
const PATIENCE: Duration = Duration::from_secs(3);
/// All that matters of an answer is in its first line.
const STATUS_LINE: usize = b"HTTP/1.1 200".len();

/// What a program is asked for: `[--health | --version] [SETTINGS FILE]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Asked {
    /// To serve, with the settings of a file where one is named.
    Serve(Option<PathBuf>),
    /// Whether the program that runs with these settings can serve.
    Health(Option<PathBuf>),
    /// Which release it is.
    Version,
}

/// The arguments were not understood.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("usage: {program} [--health | --version] [SETTINGS FILE]")]
pub struct Usage {
    program: &'static str,
}

impl Asked {
    /// Reads the arguments that follow the program's name.
    ///
    /// # Errors
    /// [`Usage`] when there are too many, or an option is unknown.
    pub fn read(
        program: &'static str,
        arguments: impl IntoIterator<Item = OsString>,
    ) -> Result<Self, Usage> {
        let mut arguments = arguments.into_iter().peekable();
        let option = arguments.next_if(|first| first.as_encoded_bytes().starts_with(b"-"));
        let file = arguments.next().map(PathBuf::from);
        let asked = match option.as_ref().map(|option| option.as_encoded_bytes()) {
            None => Some(Self::Serve(file)),
            Some(b"--health") => Some(Self::Health(file)),
            Some(b"--version") if file.is_none() => Some(Self::Version),
            Some(_) => None,
        };
        match (asked, arguments.next()) {
            (Some(asked), None) => Ok(asked),
            _ => Err(Usage { program }),
        }
    }
}

/// Why a program is not well.
#[derive(Debug, thiserror::Error)]
pub enum Unwell {
    /// Nothing answers.
    #[error("nothing answers at {0} (setting `management_listen`)")]
    Silent(SocketAddr, #[source] io::Error),
    /// The settings leave its address to chance.
    #[error("setting `management_listen`: port 0 is a free one, and nobody knows which")]
    AnyPort,
    /// It says that it cannot serve.
    #[error("http://{0}/readyz does not answer 200: see its log")]
    NotReady(SocketAddr),
}

/// Asks the management listener of a program on this machine whether it can serve. Blocks for some
/// seconds at most.
///
/// # Errors
/// [`Unwell`] when it cannot, or does not say so.
pub fn look_at(management_listen: SocketAddr) -> Result<(), Unwell> {
    if management_listen.port() == 0 {
        return Err(Unwell::AnyPort);
    }
    let address = reachable(management_listen);
    let mut answer = [0; STATUS_LINE];
    ask(address, &mut answer).map_err(|error| Unwell::Silent(address, error))?;
    match answer.ends_with(b" 200") {
        true => Ok(()),
        false => Err(Unwell::NotReady(address)),
    }
}

/// A listener on all addresses is reached at this machine's own.
fn reachable(listener: SocketAddr) -> SocketAddr {
    let ip = match listener.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => IpAddr::V4(Ipv4Addr::LOCALHOST),
        IpAddr::V6(ip) if ip.is_unspecified() => IpAddr::V6(Ipv6Addr::LOCALHOST),
        ip => ip,
    };
    SocketAddr::new(ip, listener.port())
}

fn ask(address: SocketAddr, answer: &mut [u8]) -> io::Result<()> {
    let mut stream = TcpStream::connect_timeout(&address, PATIENCE)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    let request = format!("GET /readyz HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes())?;
    stream.read_exact(answer)
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    fn read(arguments: &[&str]) -> Result<Asked, Usage> {
        Asked::read("meridian-x", arguments.iter().map(OsString::from))
    }

    #[test]
    fn arguments_are_an_option_and_a_file() {
        let file = || Some(PathBuf::from("a.toml"));
        assert_eq!(read(&[]), Ok(Asked::Serve(None)));
        assert_eq!(read(&["a.toml"]), Ok(Asked::Serve(file())));
        assert_eq!(read(&["--health"]), Ok(Asked::Health(None)));
        assert_eq!(read(&["--health", "a.toml"]), Ok(Asked::Health(file())));
        assert_eq!(read(&["--version"]), Ok(Asked::Version));
        for wrong in [
            &["--check", "a.toml"][..],
            &["a.toml", "b.toml"],
            &["--version", "a.toml"],
            &["--health", "a.toml", "b"],
        ] {
            let usage = read(wrong).unwrap_err().to_string();
            assert!(usage.contains("meridian-x [--health"), "{usage}");
        }
    }

    #[test]
    fn a_program_is_well_if_it_says_so() {
        for (status, is_well) in [("200 OK", true), ("503 Service Unavailable", false)] {
            let listener = TcpListener::bind("127.0.0.1:0").unwrap();
            let port = listener.local_addr().unwrap().port();
            let server = std::thread::spawn(move || {
                let (mut stream, _) = listener.accept().unwrap();
                let mut request = [0; 12];
                stream.read_exact(&mut request).unwrap();
                write!(stream, "HTTP/1.1 {status}\r\n\r\n").unwrap();
                request
            });
            let anywhere = SocketAddr::from((Ipv4Addr::UNSPECIFIED, port));
            assert_eq!(look_at(anywhere).is_ok(), is_well);
            assert_eq!(&server.join().unwrap(), b"GET /readyz ");
        }
        let closed = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = closed.local_addr().unwrap();
        drop(closed);
        assert!(matches!(look_at(address), Err(Unwell::Silent(..))));
        let chance = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        assert!(matches!(look_at(chance), Err(Unwell::AnyPort)));
    }
}
