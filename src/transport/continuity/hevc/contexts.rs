//! Context variables of slice data: where each syntax element's begin, and their initial values (ITU-T H.265 9.3.2.2,
//! tables 9-5 to 9-31).

pub const SAO_MERGE: usize = 0;
pub const SAO_TYPE: usize = 1;
pub const SPLIT_CU: usize = 2;
pub const BYPASS_CU: usize = 5;
pub const SKIP: usize = 6;
pub const PRED_MODE: usize = 9;
pub const PART_MODE: usize = 10;
pub const PREV_INTRA: usize = 14;
pub const INTRA_CHROMA: usize = 15;
pub const MERGE_FLAG: usize = 16;
pub const MERGE_IDX: usize = 17;
pub const INTER_PRED: usize = 18;
pub const REF_IDX: usize = 23;
pub const MVD_GREATER0: usize = 25;
pub const MVD_GREATER1: usize = 26;
pub const MVP: usize = 27;
pub const ROOT_CBF: usize = 28;
pub const SPLIT_TRANSFORM: usize = 29;
pub const CBF_LUMA: usize = 32;
pub const CBF_CHROMA: usize = 34;
pub const QP_DELTA: usize = 39;
pub const TRANSFORM_SKIP: usize = 41;
pub const LAST_X: usize = 43;
pub const LAST_Y: usize = 61;
pub const CODED_SUB_BLOCK: usize = 79;
pub const SIGNIFICANT: usize = 83;
pub const GREATER1: usize = 125;
pub const GREATER2: usize = 149;
const COUNT: usize = 155;

/// One context in a byte: `pStateIdx` above `valMps`. More than there are, so that no index of eight bits is outside.
pub type Contexts = [u8; 256];

/// Of no meaning: the element does not occur in slices of this type.
const NO: u8 = 154;

/// `initValue` for each `initType`.
#[rustfmt::skip]
const VALUES: [[u8; COUNT]; 3] = [
    [
        153, 200, 139, 141, 157, 154, NO, NO, NO, NO, 184, NO, NO, NO, 184, 63, NO, NO,
        NO, NO, NO, NO, NO, NO, NO, NO, NO, NO, NO, 153, 138, 138, 111, 141,
        94, 138, 182, 154, 154, 154, 154, 139, 139,
        110, 110, 124, 125, 140, 153, 125, 127, 140, 109, 111, 143, 127, 111, 79, 108, 123, 63,
        110, 110, 124, 125, 140, 153, 125, 127, 140, 109, 111, 143, 127, 111, 79, 108, 123, 63,
        91, 171, 134, 141,
        111, 111, 125, 110, 110, 94, 124, 108, 124, 107, 125, 141, 179, 153, 125, 107, 125, 141, 179, 153, 125,
        107, 125, 141, 179, 153, 125, 140, 139, 182, 182, 152, 136, 152, 136, 153, 136, 139, 111, 136, 139, 111,
        140, 92, 137, 138, 140, 152, 138, 139, 153, 74, 149, 92,
        139, 107, 122, 152, 140, 179, 166, 182, 140, 227, 122, 197,
        138, 153, 136, 167, 152, 152,
    ],
    [
        153, 185, 107, 139, 126, 154, 197, 185, 201, 149, 154, 139, 154, 154, 154, 152, 110, 122,
        95, 79, 63, 31, 31, 153, 153, 140, 198, 168, 79, 124, 138, 94, 153, 111,
        149, 107, 167, 154, 154, 154, 154, 139, 139,
        125, 110, 94, 110, 95, 79, 125, 111, 110, 78, 110, 111, 111, 95, 94, 108, 123, 108,
        125, 110, 94, 110, 95, 79, 125, 111, 110, 78, 110, 111, 111, 95, 94, 108, 123, 108,
        121, 140, 61, 154,
        155, 154, 139, 153, 139, 123, 123, 63, 153, 166, 183, 140, 136, 153, 154, 166, 183, 140, 136, 153, 154,
        166, 183, 140, 136, 153, 154, 170, 153, 123, 123, 107, 121, 107, 121, 167, 151, 183, 140, 151, 183, 140,
        154, 196, 196, 167, 154, 152, 167, 182, 182, 134, 149, 136,
        153, 121, 136, 137, 169, 194, 166, 167, 154, 167, 137, 182,
        107, 167, 91, 122, 107, 167,
    ],
    [
        153, 160, 107, 139, 126, 154, 197, 185, 201, 134, 154, 139, 154, 154, 183, 152, 154, 137,
        95, 79, 63, 31, 31, 153, 153, 169, 198, 168, 79, 224, 167, 122, 153, 111,
        149, 92, 167, 154, 154, 154, 154, 139, 139,
        125, 110, 124, 110, 95, 94, 125, 111, 111, 79, 125, 126, 111, 111, 79, 108, 123, 93,
        125, 110, 124, 110, 95, 94, 125, 111, 111, 79, 125, 126, 111, 111, 79, 108, 123, 93,
        121, 140, 61, 154,
        170, 154, 139, 153, 139, 123, 123, 63, 124, 166, 183, 140, 136, 153, 154, 166, 183, 140, 136, 153, 154,
        166, 183, 140, 136, 153, 154, 170, 153, 138, 138, 122, 121, 122, 121, 167, 151, 183, 140, 151, 183, 140,
        154, 196, 167, 167, 154, 152, 167, 182, 182, 134, 149, 136,
        153, 121, 136, 122, 169, 208, 166, 167, 154, 152, 167, 182,
        107, 167, 91, 107, 107, 167,
    ],
];

/// Contexts at the begin of a slice of this `initType` (0..=2) and luma quantiser.
pub fn initial(kind: usize, qp: i32) -> Contexts {
    let mut all = [0; 256];
    let qp = qp.clamp(0, 51);
    let values = VALUES.get(kind).unwrap_or(&VALUES[0]);
    for (to, &value) in all.iter_mut().zip(values) {
        let slope = i32::from(value >> 4) * 5 - 45;
        let offset = (i32::from(value & 15) << 3) - 16;
        let at = (((slope * qp) >> 4) + offset).clamp(1, 126);
        let most_probable = at > 63;
        let state = if most_probable { at - 64 } else { 63 - at };
        *to = (state as u8) << 1 | u8::from(most_probable);
    }
    all
}
