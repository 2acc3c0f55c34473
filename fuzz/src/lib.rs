//! What the targets share: an allocator that knows how much is held at once, so that a decoder which believes a
//! length in its input is found even where the memory is there.

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

static HELD: AtomicUsize = AtomicUsize::new(0);
static MOST: AtomicUsize = AtomicUsize::new(0);

/// The system's allocator, counting.
pub struct Counting;

#[global_allocator]
static ALLOCATOR: Counting = Counting;

fn grown(bytes: usize) {
    let held = HELD.fetch_add(bytes, Relaxed) + bytes;
    MOST.fetch_max(held, Relaxed);
}

// SAFETY: every call goes to the system's allocator as it came; the counters allocate nothing.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        grown(layout.size());
        // SAFETY: the caller's promise is passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        HELD.fetch_sub(layout.size(), Relaxed);
        // SAFETY: as above.
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        grown(layout.size());
        // SAFETY: as above.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        grown(size);
        HELD.fetch_sub(layout.size(), Relaxed);
        // SAFETY: as above.
        unsafe { System.realloc(pointer, layout, size) }
    }
}

/// Runs `work`, which must not hold more than `limit` bytes at any moment beyond what is held already.
pub fn within<T>(limit: usize, work: impl FnOnce() -> T) -> T {
    let before = HELD.load(Relaxed);
    MOST.store(before, Relaxed);
    let result = work();
    let most = MOST.load(Relaxed).saturating_sub(before);
    assert!(most <= limit, "held {most} bytes at once where {limit} are enough");
    result
}

/// Splits `data` into pieces whose lengths its own first bytes say, so that the fuzzer finds the cuts that matter.
pub fn cut(data: &[u8]) -> (&[u8], Vec<std::ops::Range<usize>>) {
    let Some((&count, rest)) = data.split_first() else { return (data, Vec::new()) };
    let (lengths, stream) = rest.split_at(rest.len().min(usize::from(count % 16)));
    let (mut pieces, mut at) = (Vec::new(), 0);
    for &length in lengths {
        let end = stream.len().min(at + usize::from(length));
        pieces.push(at..end);
        at = end;
    }
    pieces.push(at..stream.len());
    (stream, pieces)
}
