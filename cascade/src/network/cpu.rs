//! Functions compiled several times over, for what different CPUs have, and chosen as the program runs.

/// Defines a function that runs `$body`, an `#[inline(always)]` function of the same signature, compiled for what this
/// CPU has. All compilations compute the same bits: sums have one order, and multiply-adds are fused everywhere.
macro_rules! for_this_cpu {
    ($(#[$doc:meta])* fn $name:ident($($argument:ident: $type:ty),* $(,)?) = $body:path;) => {
        $(#[$doc])*
        fn $name($($argument: $type),*) {
            #[cfg(target_arch = "x86_64")]
            {
                #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq")]
                fn avx512($($argument: $type),*) {
                    $body($($argument),*);
                }
                #[target_feature(enable = "avx2,fma")]
                fn avx2($($argument: $type),*) {
                    $body($($argument),*);
                }
                match $crate::network::cpu::Isa::here() {
                    // SAFETY: the CPU has the features that the function is compiled for.
                    #[allow(unsafe_code)]
                    $crate::network::cpu::Isa::Avx512Vnni => return unsafe { avx512($($argument),*) },
                    // SAFETY: as above.
                    #[allow(unsafe_code)]
                    $crate::network::cpu::Isa::Avx2 => return unsafe { avx2($($argument),*) },
                    $crate::network::cpu::Isa::Portable => {}
                }
            }
            $body($($argument),*);
        }
    };
}

pub(super) use for_this_cpu;

/// What of a CPU the kernels know to use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Isa {
    #[cfg(target_arch = "x86_64")]
    Avx512Vnni,
    #[cfg(target_arch = "x86_64")]
    Avx2,
    Portable,
}

impl Isa {
    /// The most that this CPU has.
    pub(super) fn here() -> Self {
        Self::all().next().unwrap_or(Self::Portable)
    }

    /// All that this CPU has, most first.
    pub(super) fn all() -> impl Iterator<Item = Self> {
        #[cfg(target_arch = "x86_64")]
        let special = {
            let vnni = is_x86_feature_detected!("avx512f")
                && is_x86_feature_detected!("avx512bw")
                && is_x86_feature_detected!("avx512vl")
                && is_x86_feature_detected!("avx512dq")
                && is_x86_feature_detected!("avx512vnni");
            let avx2 = is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma");
            [vnni.then_some(Self::Avx512Vnni), avx2.then_some(Self::Avx2)]
        };
        #[cfg(not(target_arch = "x86_64"))]
        let special: [Option<Self>; 0] = [];
        special.into_iter().flatten().chain([Self::Portable])
    }
}
