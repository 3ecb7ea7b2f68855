//! A way to the cameras that can be cut without either end being told.

use std::net::SocketAddr;

use anyhow::{Context, Result};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};

/// The most that is on its way in one direction of a connection, bytes.
const CHUNK: usize = 64 << 10;

/// Passes connections on until it is dropped.
#[derive(Debug)]
pub(super) struct Gate {
    open: watch::Sender<bool>,
    task: JoinHandle<()>,
}

impl Gate {
    /// An open gate at one address to another one.
    pub(super) async fn between(near: SocketAddr, far: SocketAddr) -> Result<Self> {
        let listener = TcpListener::bind(near).await;
        let listener = listener.with_context(|| format!("no gate at {near}"))?;
        let (open, is_open) = watch::channel(true);
        let task = tokio::spawn(accept(listener, far, is_open));
        Ok(Self { open, task })
    }

    /// No byte passes any more, in either direction; nothing is closed, and who is new waits.
    pub(super) fn cut(&self) {
        self.open.send_replace(false);
    }

    /// What waited goes on.
    pub(super) fn mend(&self) {
        self.open.send_replace(true);
    }
}

impl Drop for Gate {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn accept(listener: TcpListener, address: SocketAddr, is_open: watch::Receiver<bool>) {
    let mut connections = JoinSet::new();
    while let Ok((near, _)) = listener.accept().await {
        connections.spawn(pass(near, address, is_open.clone()));
        while connections.try_join_next().is_some() {}
    }
}

async fn pass(near: TcpStream, address: SocketAddr, mut is_open: watch::Receiver<bool>) -> Result<()> {
    is_open.wait_for(|open| *open).await?;
    let far = TcpStream::connect(address).await?;
    for socket in [&near, &far] {
        socket.set_nodelay(true)?;
    }
    let ((near_read, near_write), (far_read, far_write)) = (near.into_split(), far.into_split());
    // The end of either direction is the end of both.
    tokio::select! {
        there = copy(near_read, far_write, is_open.clone()) => there,
        back = copy(far_read, near_write, is_open) => back,
    }
}

async fn copy(
    mut from: impl AsyncReadExt + Unpin,
    mut to: impl AsyncWriteExt + Unpin,
    mut is_open: watch::Receiver<bool>,
) -> Result<()> {
    let mut chunk = vec![0; CHUNK];
    loop {
        let length = from.read(&mut chunk).await?;
        is_open.wait_for(|open| *open).await?;
        if length == 0 {
            return Ok(());
        }
        to.write_all(&chunk[..length]).await?;
    }
}
