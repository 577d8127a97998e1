//! Inputs from which the fuzzers start: small, sound, and of every kind that a parser tells apart.

use crate::transport::testkit::{self, Muxer};

fn with_knob(knob: u8, bytes: &[u8]) -> Vec<u8> {
    [&[knob], bytes].concat()
}

pub fn ts() -> Vec<Vec<u8>> {
    let mut muxer = Muxer::default();
    muxer.tables();
    muxer.pcr(0x100, 27_000_000, false);
    for at in 0..6 {
        let stamp = Some(90_000 + at * 3_600);
        muxer.payload(
            0x100,
            &testkit::pes(0xE0, stamp, stamp, at % 2 == 0, &[0xAB; 300]),
        );
        muxer.payload(0x101, &testkit::pes(0xC0, stamp, None, true, &[0xCD; 150]));
    }
    muxer.table(
        0x1000,
        &testkit::pmt(
            1,
            1,
            0x101,
            &[(0x86, 0x102, b"\x05\x04CUEI"), (0x0F, 0x101, &[])],
        ),
    );
    muxer.pcr(0x101, 54_000_000, true);
    [0, 187, 255]
        .map(|size| with_knob(size, &muxer.bytes))
        .into()
}

pub fn pes() -> Vec<Vec<u8>> {
    let one = |bounded| {
        let bytes = testkit::pes(0xE0, Some(90_000), Some(86_400), bounded, &[0xAB; 100]);
        with_knob(0, &bytes)
    };
    let two = with_knob(
        1,
        &testkit::pes(0xC0, Some((1 << 33) - 1), None, true, &[1; 20]),
    );
    vec![one(true), one(false), [one(false), two].join(&0x47)]
}

pub fn nal() -> Vec<Vec<u8>> {
    // Parameter sets and slice headers by hand: 16x16, and a sequence of two.
    let h264 = b"\0\0\0\x01\x67\x42\xC0\x0A\xDA\x1E\xC0\x5A\0\0\0\x01\x68\xCE\x3C\x80\0\0\0\x01\x65\xB8\x40\0\0\0\x01\x41\x9A\x24";
    let hevc = b"\0\0\0\x01\x40\x01\x0C\x01\xFF\xFF\0\0\0\x01\x42\x01\x01\x01\x60\0\0\x03\0\x90\0\0\x03\0\0\x03\0\x1E\xA0\x10\x20\0\0\0\x01\x44\x01\xC1\x73\xD1\x89\0\0\0\x01\x26\x01\xAF\x08";
    let mpeg2 = b"\0\0\x01\xB3\x02\0\x20\x13\xFF\xFF\xE0\x18\0\0\x01\xB5\x14\x8A\0\x01\0\0\0\0\x01\0\0\x0F\xFF\xF8\0\0\x01\xB5\x8F\xFF\xF3\x41\x80\0\0\x01\x01\x13\xF8\0\0\x01\0\0\x97\xFF\xF8\0\0\x01\x01\x12";
    vec![with_knob(0, h264), with_knob(1, hevc), with_knob(2, mpeg2)]
}

pub fn m3u8() -> Vec<Vec<u8>> {
    let master = "#EXTM3U\n#EXT-X-MEDIA:TYPE=AUDIO,GROUP-ID=\"a\",NAME=\"de\",LANGUAGE=\"de\",URI=\"a.m3u8\"\n\
        #EXT-X-STREAM-INF:BANDWIDTH=800000,RESOLUTION=640x360,AUDIO=\"a\",CODECS=\"avc1.4d401e,mp4a.40.2\"\nv.m3u8\n\
        #EXT-X-I-FRAME-STREAM-INF:BANDWIDTH=1,URI=\"i.m3u8\"\n";
    let load = |first: u32| {
        let mut text = format!(
            "#EXTM3U\n#EXT-X-VERSION:9\n#EXT-X-TARGETDURATION:4\n#EXT-X-MEDIA-SEQUENCE:{first}\n\
             #EXT-X-DISCONTINUITY-SEQUENCE:1\n\
             #EXT-X-SERVER-CONTROL:CAN-BLOCK-RELOAD=YES,PART-HOLD-BACK=1.0,CAN-SKIP-UNTIL=24.0\n\
             #EXT-X-PART-INF:PART-TARGET=0.33334\n#EXT-X-MAP:URI=\"init.mp4\",BYTERANGE=\"700@0\"\n\
             #EXT-X-KEY:METHOD=AES-128,URI=\"key\",IV=0x00000000000000000000000000000001\n"
        );
        for at in first..first + 4 {
            text += &format!(
                "#EXT-X-PROGRAM-DATE-TIME:2024-01-01T00:00:0{}.000Z\n#EXT-X-BYTERANGE:1000@{at}\n\
                 #EXT-X-PART:DURATION=0.33334,URI=\"{at}.1.mp4\",INDEPENDENT=YES\n#EXTINF:4.0,t\n{at}.mp4\n",
                at % 10
            );
        }
        text + "#EXT-X-DISCONTINUITY\n#EXT-X-GAP\n#EXT-X-KEY:METHOD=NONE\n\
            #EXT-X-DATERANGE:ID=\"b\",START-DATE=\"2024-01-01T00:00:01Z\",PLANNED-DURATION=30,SCTE35-OUT=0xFC30\n\
            #EXT-X-CUE-OUT:DURATION=30\n#EXTINF:3.5,\nlast.mp4\n#EXT-X-CUE-IN\n\
            #EXT-X-PRELOAD-HINT:TYPE=PART,URI=\"next.mp4\",BYTERANGE-START=10\n\
            #EXT-X-RENDITION-REPORT:URI=\"../a.m3u8\",LAST-MSN=3,LAST-PART=2\n"
    };
    let skipped = "#EXTM3U\n#EXT-X-TARGETDURATION:4\n#EXT-X-MEDIA-SEQUENCE:6\n#EXT-X-SKIP:SKIPPED-SEGMENTS=3\n\
        #EXTINF:4,\n10.mp4\n#EXT-X-ENDLIST\n";
    vec![
        master.as_bytes().to_vec(),
        [load(1), load(3), skipped.to_owned()]
            .join("\0")
            .into_bytes(),
        [load(7), load(2)].join("\0").into_bytes(),
    ]
}

pub fn mpd() -> Vec<Vec<u8>> {
    let live = "<?xml version=\"1.0\"?><!-- c --><MPD xmlns=\"urn:mpeg:dash:schema:mpd:2011\" id=\"m\" type=\"dynamic\" \
        availabilityStartTime=\"2023-01-01T00:00:00Z\" publishTime=\"2023-11-14T22:00:00Z\" minimumUpdatePeriod=\"PT4S\" \
        timeShiftBufferDepth=\"PT30S\" suggestedPresentationDelay=\"PT8S\">\
        <PatchLocation ttl=\"60\">p.mpp</PatchLocation>\
        <UTCTiming schemeIdUri=\"urn:mpeg:dash:utc:http-iso:2014\" value=\"https://t.example/\"/>\
        <Period id=\"0\" start=\"PT0S\"><BaseURL>v/</BaseURL>\
        <EventStream schemeIdUri=\"urn:scte:scte35:2013:xml\" timescale=\"90000\"><Event presentationTime=\"0\" duration=\"90000\" id=\"1\"/></EventStream>\
        <AdaptationSet contentType=\"video\" mimeType=\"video/mp4\"><SegmentTemplate timescale=\"90000\" \
        media=\"$RepresentationID$/$Number%05d$.m4s\" initialization=\"$RepresentationID$/i.mp4\" duration=\"360000\" startNumber=\"1\" availabilityTimeOffset=\"3\"/>\
        <Representation id=\"a\" bandwidth=\"800000\" width=\"640\" height=\"360\" codecs=\"avc1.4d401e\"/></AdaptationSet>\
        <AdaptationSet mimeType=\"audio/mp4\" lang=\"de\"><SegmentTemplate timescale=\"48000\" media=\"a/$Time$.m4s\" initialization=\"a/i.mp4\">\
        <SegmentTimeline><S t=\"81648000000\" d=\"192000\" r=\"3\"/><S d=\"96000\" r=\"-1\"/></SegmentTimeline></SegmentTemplate>\
        <Representation id=\"s\" bandwidth=\"64000\"/></AdaptationSet></Period></MPD>";
    let whole = "<MPD xmlns=\"urn:mpeg:dash:schema:mpd:2011\" type=\"static\" mediaPresentationDuration=\"PT60S\">\
        <Period duration=\"PT30S\"><AdaptationSet mimeType=\"video/mp4\"><ContentProtection schemeIdUri=\"urn:mpeg:dash:mp4protection:2011\" value=\"cenc\"/>\
        <Representation id=\"1\" bandwidth=\"1\"><BaseURL>v.mp4</BaseURL><SegmentBase indexRange=\"700-900\"><Initialization range=\"0-699\"/></SegmentBase></Representation></AdaptationSet></Period>\
        <Period><AdaptationSet mimeType=\"video/mp4\"><Representation id=\"1\" bandwidth=\"1\"><SegmentList duration=\"10\"><Initialization sourceURL=\"i.mp4\"/>\
        <SegmentURL media=\"1.m4s\" mediaRange=\"0-99\"/><SegmentURL media=\"2.m4s\"/></SegmentList></Representation></AdaptationSet></Period></MPD>";
    let patch = "<Patch xmlns=\"urn:mpeg:dash:schema:mpd-patch:2020\" mpdId=\"m\" originalPublishTime=\"2023-11-14T22:00:00Z\" publishTime=\"2023-11-14T22:00:04Z\">\
        <replace sel=\"/MPD/@publishTime\">2023-11-14T22:00:04Z</replace>\
        <add sel=\"/MPD/Period[@id='0']/AdaptationSet[2]/SegmentTemplate/SegmentTimeline\" pos=\"prepend\"><S d=\"96000\"/></add>\
        <remove sel=\"/MPD/Period/EventStream/Event[1]\"/></Patch>";
    vec![
        live.into(),
        whole.into(),
        [live, &live.replace("PT4S", "PT2S")]
            .join("\0")
            .into_bytes(),
        [live, patch].join("\0").into_bytes(),
    ]
}

fn boxed(name: &[u8; 4], parts: &[&[u8]]) -> Vec<u8> {
    let payload = parts.concat();
    let size = (payload.len() as u32 + 8).to_be_bytes();
    [&size[..], name, &payload].concat()
}

pub fn mp4() -> Vec<Vec<u8>> {
    let tenc = boxed(b"tenc", &[&[0; 6], &[1, 8], &[0x1d; 16]]);
    let schm = boxed(b"schm", &[&[0; 4], b"cenc", &[0, 1, 0, 0]]);
    let sinf = boxed(
        b"sinf",
        &[
            &boxed(b"frma", &[b"avc1"]),
            &schm,
            &boxed(b"schi", &[&tenc]),
        ],
    );
    let entry = boxed(b"encv", &[&[0; 78], &sinf]);
    let stsd = boxed(b"stsd", &[&[0, 0, 0, 0, 0, 0, 0, 1], &entry]);
    let tkhd = boxed(b"tkhd", &[&[0; 12], &[0, 0, 0, 1], &[0; 60]]);
    let mdhd = boxed(
        b"mdhd",
        &[
            &[0; 12],
            &90_000u32.to_be_bytes(),
            &[0; 4],
            &[0x15, 0xC7, 0, 0],
        ],
    );
    let hdlr = boxed(b"hdlr", &[&[0; 8], b"vide", &[0; 13]]);
    let minf = boxed(b"minf", &[&boxed(b"stbl", &[&stsd])]);
    let trak = boxed(b"trak", &[&tkhd, &boxed(b"mdia", &[&mdhd, &hdlr, &minf])]);
    let init = [boxed(b"ftyp", &[b"iso6\0\0\0\0"]), boxed(b"moov", &[&trak])].concat();
    let tfhd = boxed(b"tfhd", &[&[0, 2, 0, 0], &[0, 0, 0, 1]]);
    let tfdt = boxed(b"tfdt", &[&[1, 0, 0, 0], &90_000u64.to_be_bytes()]);
    let trun = boxed(
        b"trun",
        &[&[0, 0, 2, 1], &[0, 0, 0, 1], &[0, 0, 0, 0], &[0, 0, 0, 40]],
    );
    let senc = boxed(
        b"senc",
        &[
            &[0, 0, 0, 2],
            &[0, 0, 0, 1],
            &[9; 8],
            &[0, 1, 0, 8, 0, 0, 0, 32],
        ],
    );
    let moof = boxed(
        b"moof",
        &[
            &boxed(b"mfhd", &[&[0; 8]]),
            &boxed(b"traf", &[&tfhd, &tfdt, &trun, &senc]),
        ],
    );
    let fragment = [moof, boxed(b"mdat", &[&[0x55; 40]])].concat();
    let sidx = boxed(
        b"sidx",
        &[
            &[0; 8],
            &90_000u32.to_be_bytes(),
            &[0; 10],
            &[0, 1],
            &[0, 0, 4, 0],
            &90_000u32.to_be_bytes(),
            &[0; 4],
        ],
    );
    // The knob says where the initialisation section ends, in eighths.
    let whole = [&init[..], &fragment].concat();
    let eighths = (init.len() * 8).div_ceil(whole.len()) as u8;
    vec![
        with_knob(eighths, &whole),
        with_knob(0, &fragment),
        with_knob(8, &init),
        with_knob(0, &sidx),
    ]
}

pub fn scte35() -> Vec<Vec<u8>> {
    // The body of a section: an insert, and a time signal with one segmentation descriptor.
    let insert = b"\0\0\0\0\0\0\xFF\xFF\xF0\x14\x05\x48\0\0\x8F\x7F\xEF\xFE\x73\x69\xC0\x2E\xFE\0\x52\xCC\xF5\0\0\0\0\0\0";
    let signal = b"\0\0\0\0\0\0\xFF\xFF\xF0\x05\x06\xFE\x72\xBD\0\x50\0\x19\x02\x17CUEI\x48\0\0\x8E\x7F\xFF\0\x01\xA5\x99\xB0\x08\x02\0\0\x34\x02\0\0\0";
    vec![insert.to_vec(), signal.to_vec()]
}

pub fn flv() -> Vec<Vec<u8>> {
    let tag = |kind: u8, millis: u32, body: &[u8]| {
        let size = (body.len() as u32).to_be_bytes();
        let time = millis.to_be_bytes();
        let head = [&[kind], &size[1..], &time[1..], &[time[0], 0, 0, 0], body].concat();
        let back = (head.len() as u32).to_be_bytes();
        [&head[..], &back].concat()
    };
    let config = [
        0x17, 0, 0, 0, 0, 1, 0x42, 0xC0, 0x0A, 0xFF, 0xE1, 0, 2, 0x67, 0x42, 1, 0, 2, 0x68, 0xCE,
    ];
    let bytes = [
        b"FLV\x01\x05\0\0\0\x09\0\0\0\0".to_vec(),
        tag(18, 0, b"\x02\0\x0AonMetaData"),
        tag(9, 0, &config),
        tag(8, 0, &[0xAF, 0, 0x11, 0x90]),
        tag(9, 40, &[0x27, 1, 0, 0, 40, 0, 0, 0, 2, 0x65, 0xB8]),
        tag(8, 23, &[0xAF, 1, 0x21, 0x10]),
    ]
    .concat();
    [0, 12, 255].map(|size| with_knob(size, &bytes)).into()
}

pub fn webm() -> Vec<Vec<u8>> {
    let made = |id: &[u8], content: &[u8]| {
        let size = (content.len() as u32 | 0x1000_0000).to_be_bytes();
        [id, &size, content].concat()
    };
    let open = |id: &[u8]| [id, &[0x01, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF]].concat();
    let track = |number: u8, kind: u8, codec: &[u8]| {
        let inside = [
            made(b"\xD7", &[number]),
            made(b"\x83", &[kind]),
            made(b"\x86", codec),
            made(b"\x22\xB5\x9C", b"deu"),
        ];
        made(b"\xAE", &inside.concat())
    };
    let bytes = [
        made(b"\x1A\x45\xDF\xA3", &made(b"\x42\x82", b"webm")),
        open(b"\x18\x53\x80\x67"),
        made(
            b"\x15\x49\xA9\x66",
            &made(b"\x2A\xD7\xB1", &1_000_000u32.to_be_bytes()),
        ),
        made(
            b"\x16\x54\xAE\x6B",
            &[track(1, 1, b"V_VP9"), track(2, 2, b"A_OPUS")].concat(),
        ),
        open(b"\x1F\x43\xB6\x75"),
        made(b"\xE7", &[1, 0]),
        made(b"\xA3", &[0x81, 0, 0, 0x80, 1, 2, 3, 4]),
        made(b"\xA0", &made(b"\xA1", &[0x82, 0, 5, 0, 9, 9])),
    ]
    .concat();
    [0, 30, 255].map(|size| with_knob(size, &bytes)).into()
}

pub fn sample_aes() -> Vec<Vec<u8>> {
    let unit = [&b"\0\0\0\x01\x65"[..], &[0xA5; 240]].concat();
    let aac = [&b"\xFF\xF1\x50\x80\x0C\x9F\xFC"[..], &[0x5A; 93]].concat();
    let ac3 = [&b"\x0B\x77\0\0\0\x40"[..], &[0x5A; 122]].concat();
    vec![
        with_knob(0, &[&unit[..], b"\0\0\x03\x01", &unit].concat()),
        with_knob(9, &[&aac[..], &aac].concat()),
        with_knob(10, &[&ac3[..], &ac3].concat()),
    ]
}
