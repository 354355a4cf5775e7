//! Elementary streams in packets, in the order of their times.

use castlog_cmaf::{Audio, VIDEO_TIMESCALE, read::Chunk};
use mpeg2ts::{
    es::{StreamId, StreamType},
    pes::PesHeader,
    time::{ClockReference, Timestamp},
    ts::{
        AdaptationField, ContinuityCounter, EsInfo, Pid, ProgramAssociation, TransportScramblingControl, TsHeader,
        TsPacket, TsPacketWriter, TsPayload, VersionNumber, WriteTsPacket as _,
        payload::{Bytes, Pat, Pes, Pmt},
    },
};

use crate::{
    Error, Pictures, Sound,
    elementary::{Adts, Avc},
};

const PROGRAM: u16 = 1;
const TABLES: u16 = 0x1000;
const VIDEO: u16 = 0x100;
const AUDIO: u16 = 0x101;
/// Times begin here, so that the clock, which is ahead of what is decoded, does too.
const BEGIN: u64 = 90_000;
/// How much earlier than it is decoded a sample is said to arrive: half a second.
const AHEAD: u64 = 45_000;
/// Frames of sound in a packet of the elementary stream: the clock has to be told each
/// tenth of a second, by sound where there is no picture.
const FRAMES: usize = 4;
/// What a transport packet carries.
const ROOM: usize = Bytes::MAX_SIZE;

/// What is sent as one packet of an elementary stream; times in 1/90000 s.
struct Unit {
    decoded: u64,
    shown: u64,
    sync: bool,
    picture: bool,
    data: Vec<u8>,
}

/// The bytes of a segment.
///
/// # Errors
/// There is nothing in it, or something that the container cannot carry.
pub fn segment(pictures: Option<Pictures<'_>>, sound: Option<Sound<'_>>) -> Result<Vec<u8>, Error> {
    let mut units = Vec::new();
    if let Some(pictures) = &pictures {
        let avc = Avc::new(&pictures.track.avcc)?;
        for (time, sample) in samples(pictures.chunks) {
            let shown = time.saturating_add_signed(sample.composition_offset.into());
            units.push(Unit {
                decoded: ticks(time, VIDEO_TIMESCALE),
                shown: ticks(shown, VIDEO_TIMESCALE),
                sync: sample.sync,
                picture: true,
                data: avc.picture(&sample.data, sample.sync)?,
            });
        }
    }
    if let Some(sound) = &sound {
        units.extend(frames(sound.track, sound.chunks)?);
    }
    if units.is_empty() {
        return Err(Error::Empty);
    }
    // Pictures stand before the sound of their time.
    units.sort_by_key(|unit| (unit.decoded, !unit.picture));
    let size = units.iter().map(|unit| unit.data.len()).sum::<usize>();
    let mut writer = Writer::new(size * 21 / 20 + 1024);
    writer.tables(pictures.is_some(), sound.is_some())?;
    for unit in &units {
        writer.unit(unit, unit.picture || pictures.is_none())?;
    }
    Ok(writer.out.into_stream())
}

/// Each sample with its decoding time in ticks of its track.
fn samples(chunks: &[Chunk]) -> impl Iterator<Item = (u64, &castlog_cmaf::Sample)> {
    chunks.iter().flat_map(|chunk| {
        let mut time = chunk.decode_time;
        chunk.samples.iter().map(move |sample| {
            let at = time;
            time = time.saturating_add(sample.duration.into());
            (at, sample)
        })
    })
}

fn frames(track: &Audio, chunks: &[Chunk]) -> Result<Vec<Unit>, Error> {
    let adts = Adts::new(&track.config)?;
    let all: Vec<_> = samples(chunks).collect();
    let units = all.chunks(FRAMES).map(|frames| {
        let time = frames.first().map_or(0, |(time, _)| *time);
        let data: Result<Vec<_>, _> = frames.iter().map(|(_, sample)| adts.frame(&sample.data)).collect();
        Ok(Unit {
            decoded: ticks(time, track.sample_rate),
            shown: ticks(time, track.sample_rate),
            sync: true,
            picture: false,
            data: data?.concat(),
        })
    });
    units.collect()
}

fn ticks(time: u64, timescale: u32) -> u64 {
    let ticks = u128::from(time) * 90_000 / u128::from(timescale.max(1));
    u64::try_from(ticks).unwrap_or(u64::MAX)
}

/// A time of the container, which begins anew after 26 hours.
fn stamp(time: u64) -> Result<Timestamp, Error> {
    Ok(Timestamp::new(time.wrapping_add(BEGIN) & Timestamp::MAX)?)
}

struct Writer {
    out: TsPacketWriter<Vec<u8>>,
    video: ContinuityCounter,
    audio: ContinuityCounter,
}

impl Writer {
    fn new(size: usize) -> Self {
        Self {
            out: TsPacketWriter::new(Vec::with_capacity(size)),
            video: ContinuityCounter::new(),
            audio: ContinuityCounter::new(),
        }
    }

    fn packet(
        &mut self,
        pid: u16,
        counter: ContinuityCounter,
        adaptation_field: Option<AdaptationField>,
        payload: TsPayload,
    ) -> Result<(), Error> {
        let packet = TsPacket {
            header: TsHeader {
                transport_error_indicator: false,
                transport_priority: false,
                pid: Pid::new(pid)?,
                transport_scrambling_control: TransportScramblingControl::NotScrambled,
                continuity_counter: counter,
            },
            adaptation_field,
            payload: Some(payload),
        };
        Ok(self.out.write_ts_packet(&packet)?)
    }

    fn tables(&mut self, pictures: bool, sound: bool) -> Result<(), Error> {
        let pat = Pat {
            transport_stream_id: PROGRAM,
            version_number: VersionNumber::new(),
            table: vec![ProgramAssociation {
                program_num: PROGRAM,
                program_map_pid: Pid::new(TABLES)?,
            }],
        };
        self.packet(Pid::PAT, ContinuityCounter::new(), None, TsPayload::Pat(pat))?;
        let stream = |kind, pid| -> Result<EsInfo, Error> {
            Ok(EsInfo {
                stream_type: kind,
                elementary_pid: Pid::new(pid)?,
                descriptors: Vec::new(),
            })
        };
        let mut es_info = Vec::new();
        if pictures {
            es_info.push(stream(StreamType::H264, VIDEO)?);
        }
        if sound {
            es_info.push(stream(StreamType::AdtsAac, AUDIO)?);
        }
        let pmt = Pmt {
            program_num: PROGRAM,
            pcr_pid: Some(Pid::new(if pictures { VIDEO } else { AUDIO })?),
            version_number: VersionNumber::new(),
            program_info: Vec::new(),
            es_info,
        };
        self.packet(TABLES, ContinuityCounter::new(), None, TsPayload::Pmt(pmt))
    }

    /// A unit in as many packets as it takes; the first tells the clock where it is `clocked`.
    fn unit(&mut self, unit: &Unit, clocked: bool) -> Result<(), Error> {
        let (pid, stream_id) = match unit.picture {
            true => (VIDEO, StreamId::new_video(StreamId::VIDEO_MIN)?),
            false => (AUDIO, StreamId::new_audio(StreamId::AUDIO_MIN)?),
        };
        let clock = unit.decoded.wrapping_add(BEGIN - AHEAD) & Timestamp::MAX;
        let field = AdaptationField {
            discontinuity_indicator: false,
            random_access_indicator: unit.sync,
            es_priority_indicator: false,
            pcr: if clocked {
                Some(ClockReference::new(clock * 300)?)
            } else {
                None
            },
            opcr: None,
            splice_countdown: None,
            transport_private_data: Vec::new(),
            extension: None,
        };
        let field = (clocked || unit.sync).then_some(field);
        let dts = (unit.decoded != unit.shown).then(|| stamp(unit.decoded)).transpose()?;
        // Bytes in front of the data: the field with its length, flags and clock, then the header.
        let taken = field.as_ref().map_or(0, |field| 2 + field.pcr.map_or(0, |_| 6));
        let header = 3 + 5 + dts.map_or(0, |_| 5);
        let (first, rest) = unit.data.split_at(unit.data.len().min(ROOM - taken - 6 - header));
        // A picture may be of any size, which the stream says by 0.
        let size = if unit.picture { 0 } else { header + unit.data.len() };
        let start = Pes {
            header: PesHeader {
                stream_id,
                priority: false,
                data_alignment_indicator: true,
                copyright: false,
                original_or_copy: false,
                pts: Some(stamp(unit.shown)?),
                dts,
                escr: None,
            },
            pes_packet_len: u16::try_from(size).map_err(|_| Error::Sample("more than 64 KB of sound"))?,
            data: Bytes::new(first)?,
        };
        let counter = self.next(unit.picture);
        self.packet(pid, counter, field, TsPayload::PesStart(start))?;
        for part in rest.chunks(ROOM) {
            let counter = self.next(unit.picture);
            self.packet(pid, counter, None, TsPayload::PesContinuation(Bytes::new(part)?))?;
        }
        Ok(())
    }

    fn next(&mut self, picture: bool) -> ContinuityCounter {
        let counter = if picture { &mut self.video } else { &mut self.audio };
        let now = *counter;
        counter.increment();
        now
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use castlog_cmaf::{Sample, Video};
    use mpeg2ts::ts::{ReadTsPacket as _, TsPacketReader};

    use super::*;
    use crate::Media;

    fn chunk(decode_time: u64, durations: &[u32], size: usize) -> Chunk {
        let prefix = u32::try_from(size).unwrap().to_be_bytes().to_vec();
        let samples = durations.iter().enumerate().map(|(n, &duration)| Sample {
            duration,
            composition_offset: if n == 1 { 3000 } else { 0 },
            sync: n == 0,
            data: [prefix.clone(), vec![0x41; size]].concat().into(),
        });
        Chunk {
            sequence: 0,
            decode_time,
            samples: samples.collect(),
            size: 0,
        }
    }

    #[test]
    fn a_segment_stands_alone_and_its_clock_is_ahead() {
        let video = Video {
            avcc: vec![1, 0x42, 0xc0, 0x15, 0xff, 0xe1, 0, 1, 0x67, 1, 0, 1, 0x68].into(),
            width: 16,
            height: 16,
            pixel_aspect: (1, 1),
        };
        let audio = Audio {
            config: vec![0x11, 0x90].into(),
            sample_rate: 48_000,
            channels: 2,
        };
        // Of all sizes around those of a packet; the times pass the end of what the container counts.
        for size in (1..200).chain([1000, 70_000]) {
            let begin = (1 << 33) - 95_000;
            let pictures = [chunk(begin, &[3000, 3000], size), chunk(begin + 6000, &[3000; 3], size)];
            let frames = begin * 48_000 / 90_000;
            let sound = [chunk(frames, &[1024; 9], size.min(700))];
            let pictures = Media {
                track: &video,
                chunks: &pictures,
            };
            let sound = Media {
                track: &audio,
                chunks: &sound,
            };
            let bytes = segment(Some(pictures), Some(sound)).unwrap();
            assert_eq!(bytes.len() % TsPacket::SIZE, 0);
            let mut reader = TsPacketReader::new(&bytes[..]);
            let (mut counters, mut shown, mut seen) = (HashMap::new(), Vec::new(), 0);
            while let Some(packet) = reader.read_ts_packet().unwrap() {
                let pid = packet.header.pid.as_u16();
                let next: &mut u8 = counters.entry(pid).or_default();
                assert_eq!(
                    packet.header.continuity_counter.as_u8(),
                    *next,
                    "packet {seen} of {pid}"
                );
                *next = (*next + 1) % 16;
                match (seen, packet.payload) {
                    (0, payload) => assert!(matches!(payload, Some(TsPayload::Pat(_)))),
                    (1, payload) => assert!(matches!(payload, Some(TsPayload::Pmt(_)))),
                    (_, Some(TsPayload::PesStart(pes))) => {
                        let pts = pes.header.pts.unwrap().as_u64();
                        let dts = pes.header.dts.map_or(pts, |dts| dts.as_u64());
                        let clock = packet.adaptation_field.and_then(|field| field.pcr);
                        assert_eq!(clock.is_some(), pid == VIDEO);
                        if let Some(clock) = clock {
                            assert_eq!((dts + (1 << 33) - clock.as_u64() / 300) % (1 << 33), AHEAD);
                            shown.push((pts, dts));
                        }
                    }
                    _ => {}
                }
                seen += 1;
            }
            let at = |n: u64| (begin + n * 3000 + BEGIN) % (1 << 33);
            let wanted = [(0, 0), (2, 1), (2, 2), (4, 3), (4, 4)].map(|(pts, dts)| (at(pts), at(dts)));
            assert_eq!(shown, wanted, "size {size}");
        }
    }

    #[test]
    fn nothing_is_no_segment() {
        assert!(matches!(segment(None, None), Err(Error::Empty)));
    }
}
