//! BLAKE3, which browsers lack.

/** Returns a function that hashes bytes to 64 hexadecimal digits. Loads the code on the first call. */
export async function hasher() {
  const { blake3 } = await import("@noble/hashes/blake3.js");
  return {
    hash: (bytes: Uint8Array) => hex(blake3(bytes)),
    /** Starts the hash of bytes that come in parts. */
    begin: () => {
      const state = blake3.create();
      return { update: (bytes: Uint8Array) => void state.update(bytes), end: () => hex(state.digest()) };
    },
  };
}

function hex(bytes: Uint8Array): string {
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
}
