//! Pages as the plain bytes that the kernel takes.
// Unsafe because the core hands out pages one by one and a large write should be one piece of memory.
#![allow(unsafe_code)]

use crate::disk::{PAGE_BYTES, Page};

const _: () = assert!(size_of::<Page>() == PAGE_BYTES);

/// The bytes of consecutive pages.
pub(super) fn bytes(pages: &[Page]) -> &[u8] {
    // SAFETY: `Page` is `repr(C)` around `[u8; PAGE_BYTES]` and the assertion above says that it has no padding, so these
    // are `len * PAGE_BYTES` initialized bytes; the borrow of `pages` keeps them in place and unchanged.
    unsafe { core::slice::from_raw_parts(pages.as_ptr().cast(), size_of_val(pages)) }
}

/// The bytes of consecutive pages, to be changed.
pub(super) fn bytes_mut(pages: &mut [Page]) -> &mut [u8] {
    // SAFETY: as in `bytes`; any byte is a legal one for a page, and the unique borrow of `pages` is held by the result.
    unsafe { core::slice::from_raw_parts_mut(pages.as_mut_ptr().cast(), size_of_val(pages)) }
}
