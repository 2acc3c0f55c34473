//! A server that behaves as badly as a test wants.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// What an origin has seen.
#[derive(Default)]
pub(crate) struct Seen {
    /// Requests, head and body as they came.
    pub(crate) requests: Vec<String>,
    pub(crate) connections: usize,
    /// Connections whose end the origin has noticed.
    pub(crate) ended: usize,
}

pub(crate) struct Origin {
    pub(crate) port: u16,
    seen: Arc<Mutex<Seen>>,
}

/// One connection, on the origin's side.
pub(crate) struct Connection {
    reader: BufReader<TcpStream>,
    seen: Arc<Mutex<Seen>>,
}

impl Origin {
    /// Serves each connection with `behave`, in a thread of its own.
    pub(crate) fn start(
        behave: impl Fn(&mut Connection) -> io::Result<()> + Send + Sync + 'static,
    ) -> Origin {
        Origin::serve(TcpListener::bind("127.0.0.1:0").expect("bind"), behave)
    }

    /// Answers every request at `address` with 200.
    pub(crate) fn on(address: &str) -> io::Result<Origin> {
        let listener = TcpListener::bind(address)?;
        Ok(Origin::serve(listener, |connection| {
            while connection.request()?.is_some() {
                connection.write("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")?;
            }
            Ok(())
        }))
    }

    fn serve(
        listener: TcpListener,
        behave: impl Fn(&mut Connection) -> io::Result<()> + Send + Sync + 'static,
    ) -> Origin {
        let port = listener.local_addr().expect("address").port();
        let seen = Arc::new(Mutex::new(Seen::default()));
        let (behave, shared) = (Arc::new(behave), seen.clone());
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let Ok(stream) = stream else { return };
                stream.set_read_timeout(Some(Duration::from_secs(20))).expect("time-out");
                shared.lock().unwrap_or_else(PoisonError::into_inner).connections += 1;
                let (behave, seen) = (behave.clone(), shared.clone());
                std::thread::spawn(move || {
                    let mut connection = Connection { reader: BufReader::new(stream), seen: seen.clone() };
                    // However it ends, the end is what the test asks about.
                    let _ = behave(&mut connection);
                    seen.lock().unwrap_or_else(PoisonError::into_inner).ended += 1;
                });
            }
        });
        Origin { port, seen }
    }

    /// Answers every request with `response`.
    pub(crate) fn answering(response: &'static str) -> Origin {
        Origin::start(move |connection| {
            while connection.request()?.is_some() {
                connection.write(response)?;
            }
            Ok(())
        })
    }

    /// Answers every request with 200 and the request itself.
    pub(crate) fn echo() -> Origin {
        Origin::start(|connection| {
            while let Some(request) = connection.request()? {
                connection.write(format!(
                    "HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{request}",
                    request.len()
                ))?;
            }
            Ok(())
        })
    }

    pub(crate) fn seen<T>(&self, look: impl FnOnce(&Seen) -> T) -> T {
        look(&self.seen.lock().unwrap_or_else(PoisonError::into_inner))
    }

    pub(crate) fn requests(&self) -> usize {
        self.seen(|seen| seen.requests.len())
    }
}

impl Connection {
    /// The next request, its chunks joined as they came; none at the end of the connection.
    pub(crate) fn request(&mut self) -> io::Result<Option<String>> {
        let mut text = self.lines()?;
        if text.is_empty() {
            return Ok(None);
        }
        let field = |name: &str| {
            let value = text.lines().find_map(|line| line.strip_prefix(name));
            value.map(|value| value.trim().to_owned())
        };
        if field("transfer-encoding:").is_some() {
            loop {
                let mut size = String::new();
                self.reader.read_line(&mut size)?;
                let length = usize::from_str_radix(size.trim(), 16).map_err(io::Error::other)?;
                let mut chunk = vec![0; length + 2];
                self.reader.read_exact(&mut chunk)?;
                text += &String::from_utf8_lossy(&chunk[..length]);
                if length == 0 {
                    break;
                }
            }
        } else if let Some(length) = field("content-length:") {
            let mut body = vec![0; length.parse().map_err(io::Error::other)?];
            self.reader.read_exact(&mut body)?;
            text += &String::from_utf8_lossy(&body);
        }
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).requests.push(text.clone());
        Ok(Some(text))
    }

    /// Lines up to an empty one; nothing at the end of the connection.
    pub(crate) fn lines(&mut self) -> io::Result<String> {
        let mut text = String::new();
        while !text.ends_with("\r\n\r\n") {
            if self.reader.read_line(&mut text)? == 0 {
                return Ok(String::new());
            }
        }
        Ok(text)
    }

    pub(crate) fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.reader.read(buffer)
    }

    pub(crate) fn read_exact(&mut self, buffer: &mut [u8]) -> io::Result<()> {
        self.reader.read_exact(buffer)
    }

    pub(crate) fn write(&mut self, bytes: impl AsRef<[u8]>) -> io::Result<()> {
        self.reader.get_mut().write_all(bytes.as_ref())
    }

    /// Waits for the peer's end, reading nothing of interest.
    pub(crate) fn await_end(&mut self) -> io::Result<()> {
        io::copy(&mut self.reader, &mut io::sink()).map(drop)
    }

    /// Ends the connection by a reset.
    pub(crate) fn reset(&mut self) -> io::Result<()> {
        socket2::SockRef::from(self.reader.get_ref()).set_linger(Some(Duration::ZERO))
    }
}
