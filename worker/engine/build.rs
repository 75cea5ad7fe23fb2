//! Compiles the CUDA kernels when the engine is built with feature `cuda`; does nothing otherwise.

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    #[cfg(feature = "cuda")]
    cuda::compile();
}

#[cfg(feature = "cuda")]
mod cuda {
    use std::env;
    use std::path::PathBuf;
    use std::process::Command;

    const SOURCE: &str = "src/cuda/kernels.cu";

    /// Machine code for the one device generation that is built for, as candle's own kernels, and
    /// the portable form beside it, which a driver can translate for newer ones.
    pub(super) fn compile() {
        println!("cargo::rerun-if-changed={SOURCE}");
        println!("cargo::rerun-if-env-changed=NVCC");
        println!("cargo::rerun-if-env-changed=CUDA_COMPUTE_CAP");
        let toolkit = cudaforge::CudaToolkit::detect().expect(
            "the CUDA compiler is needed: put nvcc on the PATH or name it in NVCC (make check-cuda \
             shows how to get it from packages)",
        );
        let capability = cudaforge::detect_compute_cap().expect(
            "without a GPU, say which one to build for: CUDA_COMPUTE_CAP=90 for H100 and H200",
        );
        let number = capability.base();
        let out = env::var_os("OUT_DIR").expect("cargo names the folder for build results");
        let target = PathBuf::from(out).join("kernels.fatbin");
        let ended = Command::new(&toolkit.nvcc_path)
            .args(["-O3", "-std=c++17", "-fatbin", "-o"])
            .arg(&target)
            .arg(format!("-gencode=arch=compute_{number},code=sm_{number}"))
            .arg(format!("-gencode=arch=compute_{number},code=compute_{number}"))
            .arg(SOURCE)
            .status();
        let ended = ended
            .unwrap_or_else(|error| panic!("starting {}: {error}", toolkit.nvcc_path.display()));
        assert!(ended.success(), "{SOURCE} does not compile: nvcc says why above");
        println!("cargo::rustc-env=STOKER_CUDA_KERNELS={}", target.display());
        println!("cargo::rustc-env=STOKER_COMPUTE_CAPABILITY={number}");
    }
}
