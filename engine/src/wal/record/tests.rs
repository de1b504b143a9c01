use super::*;
use crate::types::RunKind;

fn header() -> Header {
    Header {
        kind: FrameKind::Runs,
        body_bytes: 0,
        body_crc: 0,
        previous: 5,
        frame_pages_max: 9,
        salt: 77,
        generation: 3,
        slot: 4,
        offset: 8192,
        segment_bytes: 1 << 20,
        sequence: 12,
        term: Term(2),
        first: Index(1),
        last: Index(1),
        hard: HardState {
            term: Term(2),
            vote: Some(MemberId(8)),
            commit: Index(1),
        },
        runs: 0,
    }
}

fn frame(entries: &[usize]) -> (Frame, Vec<u8>) {
    let mut bytes = Vec::new();
    for (number, length) in entries.iter().enumerate() {
        bytes.extend_from_slice(&u32::try_from(*length).unwrap().to_le_bytes());
        bytes.extend((0..*length).map(|at| (at * 7 + number) as u8));
    }
    let count = u32::try_from(entries.len()).unwrap();
    let mut frame = Frame::new(Pages::zeroed(3));
    frame.push(&Run {
        kind: RunKind::Normal,
        term: Term(2),
        first: Index(10),
        count,
        bytes: &bytes,
    });
    (frame, bytes)
}

#[test]
fn a_frame_of_any_size_is_read_back_as_it_was_packed() {
    for length in [
        0, 1, 300, 327, 328, 329, 504, 3000, 3847, 3848, 3849, 3850, 4096, 70_000,
    ] {
        let (frame, bytes) = frame(&[length, 0, 5]);
        let (pages, digest) = frame.finish(header());
        let (read, read_digest) = Header::decode(pages.sector(0)).unwrap();
        assert_eq!(digest, read_digest);
        assert_eq!(read.pages(), pages.count());
        assert_eq!((read.first, read.last), (Index(10), Index(12)));
        let mut body = Vec::new();
        unpack(&read, pages.as_slice(), &mut body);
        assert_eq!(crc32c::crc32c(&body), read.body_crc);
        let mut runs = 0;
        each_run(&read, &body, |run| {
            assert_eq!(
                (run.first, run.count, run.bytes),
                (Index(10), 3, &bytes[..])
            );
            runs += 1;
        })
        .unwrap();
        assert_eq!(runs, 1);
    }
}

#[test]
fn every_flipped_bit_of_a_header_is_seen() {
    let (frame, _) = frame(&[100]);
    let (mut pages, _) = frame.finish(header());
    for bit in 0..HEADER_BYTES * 8 {
        pages.sector_mut(0)[bit / 8] ^= 1 << (bit % 8);
        assert!(Header::decode(pages.sector(0)).is_none(), "bit {bit}");
        pages.sector_mut(0)[bit / 8] ^= 1 << (bit % 8);
    }
}

#[test]
fn a_stamp_tells_its_sequence_and_its_place() {
    let stamps = Stamps::new(1, 2);
    let mut page = [Page::ZERO];
    stamps.stamp(&mut page, 4096, 99);
    let (sectors, _) = page[0].0.as_chunks::<SECTOR_BYTES>();
    assert_eq!(stamps.read(&sectors[3], 4096 + 3 * 512), Stamp::Of(99));
    assert_eq!(stamps.read(&sectors[3], 4096 + 2 * 512), Stamp::Damaged);
    assert_eq!(
        Stamps::new(1, 3).read(&sectors[3], 4096 + 3 * 512),
        Stamp::Damaged
    );
    assert_eq!(stamps.read(&[0; SECTOR_BYTES], 0), Stamp::Damaged);
}

#[test]
fn old_bytes_of_a_reused_buffer_never_reach_the_disk() {
    let mut dirty = Pages::zeroed(4);
    dirty
        .as_mut_slice()
        .iter_mut()
        .for_each(|page| page.0.fill(0xaa));
    let mut frame = Frame::new(dirty);
    frame.push(&Run {
        kind: RunKind::Normal,
        term: Term(1),
        first: Index(1),
        count: 1,
        bytes: &[0; 4],
    });
    let (pages, _) = frame.finish(header());
    let payload = pages.as_slice()[0]
        .0
        .as_chunks::<SECTOR_BYTES>()
        .0
        .iter()
        .flat_map(|sector| &sector[..SECTOR_PAYLOAD]);
    assert!(
        payload
            .skip(HEADER_BYTES + RUN_HEAD_BYTES)
            .all(|byte| *byte == 0)
    );
}
