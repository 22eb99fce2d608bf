//! A TCP connection that can be reset: closed with RST, as a crashed peer or a middlebox does.
//!
//! Knows nothing of HTTP.
//!
//! Invariants: Nagle's algorithm is off; the reset happens when the connection is dropped.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

/// Asks for its connection to be reset instead of closed.
#[derive(Debug, Clone, Default)]
pub struct ResetSwitch(Arc<AtomicBool>);

impl ResetSwitch {
    pub fn arm(&self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

pub struct Socket {
    stream: TcpStream,
    reset: ResetSwitch,
}

impl Socket {
    pub fn new(stream: TcpStream) -> io::Result<Self> {
        stream.set_nodelay(true)?;
        Ok(Self { stream, reset: ResetSwitch::default() })
    }

    pub fn reset_switch(&self) -> ResetSwitch {
        self.reset.clone()
    }

    /// With no time to linger, closing sends RST and drops what the peer has not yet received.
    fn arm_if_asked(&self) {
        if self.reset.0.load(Ordering::Relaxed) {
            let no_time = Some(Duration::ZERO);
            // A connection that is already gone cannot be reset, and need not be.
            let _ = rustix::net::sockopt::set_socket_linger(&self.stream, no_time);
        }
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        self.arm_if_asked();
    }
}

impl AsyncRead for Socket {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl AsyncWrite for Socket {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    /// A shutdown would send FIN first, so a connection to be reset is only dropped.
    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.reset.0.load(Ordering::Relaxed) {
            return Poll::Ready(Ok(()));
        }
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
