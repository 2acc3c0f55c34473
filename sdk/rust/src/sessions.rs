//! The sessions that the gateway has open, and the plugin that new ones begin with.
//!
//! One is opened, looked up and closed for every request, so what each of these needs is behind one lock: what costs most
//! here are locked operations, of which there are as few as can be. A lock is held for a few instructions, and never while
//! code of the plugin runs. There are several, so that requests on different cores rarely meet at one.

use crate::link::Callback;
use crate::loaded::Loaded;
use crate::open::OpenSession;
use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

const SHARDS: usize = 16;

pub(crate) struct Sessions([Shard; SHARDS]);

/// On a cache line of its own.
#[repr(align(64))]
struct Shard(Mutex<Contents>);

struct Contents {
    /// Which new sessions begin with; the same in all shards.
    plugin: Option<Arc<Loaded>>,
    open: Open,
}

type Open = HashMap<u32, Arc<OpenSession>, BuildHasherDefault<SidHasher>>;

impl Sessions {
    pub(crate) const fn new() -> Sessions {
        Sessions([const { Shard::new() }; SHARDS])
    }

    /// New sessions begin with this plugin from now on.
    pub(crate) fn begin_with(&self, plugin: Option<&Arc<Loaded>>) {
        for shard in &self.0 {
            let replaced = std::mem::replace(&mut shard.lock().plugin, plugin.cloned());
            // Not under the lock, since it may end the replaced plugin.
            drop(replaced);
        }
    }

    /// Opens a session for the entry of this name; false where there is none.
    pub(crate) fn open(&self, sid: u32, entry: &[u8], callback: Callback) -> bool {
        let shard = self.of(sid);
        let mut contents = shard.lock();
        let found = |plugin: &Arc<Loaded>| plugin.find(entry).map(|place| (plugin.clone(), place));
        let Some((plugin, entry)) = contents.plugin.as_ref().and_then(found) else { return false };
        let session = if plugin.entry(entry).setup.is_none() {
            OpenSession::open(plugin, entry, sid, callback)
        } else {
            drop(contents);
            let session = OpenSession::open(plugin, entry, sid, callback);
            contents = shard.lock();
            session
        };
        let replaced = contents.open.insert(sid, Arc::new(session));
        drop(contents);
        drop(replaced);
        true
    }

    pub(crate) fn get(&self, sid: u32) -> Option<Arc<OpenSession>> {
        self.of(sid).lock().open.get(&sid).cloned()
    }

    pub(crate) fn close(&self, sid: u32) {
        let session = self.of(sid).lock().open.remove(&sid);
        if let Some(session) = session {
            close(session);
        }
    }

    pub(crate) fn close_all(&self) {
        for shard in &self.0 {
            let open = std::mem::take(&mut shard.lock().open);
            open.into_values().for_each(close);
        }
    }

    fn of(&self, sid: u32) -> &Shard {
        &self.0[sid as usize % SHARDS]
    }
}

/// Closes a session that nobody finds any more.
fn close(session: Arc<OpenSession>) {
    // Where nobody else has it, nobody can get it, and there is nobody to tell.
    if Arc::strong_count(&session) > 1 {
        session.link.close();
    }
}

impl Shard {
    const fn new() -> Shard {
        let open = HashMap::with_hasher(BuildHasherDefault::new());
        Shard(Mutex::new(Contents { plugin: None, open }))
    }

    fn lock(&self) -> MutexGuard<'_, Contents> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Spreads sids, which the gateway chooses and nobody else can.
#[derive(Default)]
struct SidHasher(u64);

impl Hasher for SidHasher {
    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.write_u32(u32::from(*byte));
        }
    }

    fn write_u32(&mut self, sid: u32) {
        self.0 = (self.0 ^ u64::from(sid)).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(32);
    }

    fn finish(&self) -> u64 {
        self.0
    }
}
