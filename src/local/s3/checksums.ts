import { createHash } from 'node:crypto';
import { crc32 as zlibCrc32 } from 'node:zlib';

export const checksumAlgorithms = ['CRC32', 'CRC32C', 'SHA1', 'SHA256', 'CRC64NVME'] as const;
export type ChecksumAlgorithm = (typeof checksumAlgorithms)[number];

export const checksumHeader = (algorithm: ChecksumAlgorithm): string =>
  `x-amz-checksum-${algorithm.toLowerCase()}`;

export function algorithmOfHeader(header: string): ChecksumAlgorithm | undefined {
  return checksumAlgorithms.find((a) => checksumHeader(a) === header.toLowerCase());
}

export interface Hasher {
  update(bytes: Buffer): void;
  digest(): Buffer;
}

function uint32(value: number): Buffer {
  const out = Buffer.alloc(4);
  out.writeUInt32BE(value >>> 0);
  return out;
}

function crc32Hasher(): Hasher {
  let crc = 0;
  return { update: (bytes) => void (crc = zlibCrc32(bytes, crc)), digest: () => uint32(crc) };
}

// Eight tables of 256: one step of the loop takes eight bytes ("slicing by eight").
const crc32cTables = ((): Uint32Array[] => {
  const first = new Uint32Array(256);
  for (let n = 0; n < 256; n++) {
    let c = n;
    for (let k = 0; k < 8; k++) c = c & 1 ? (c >>> 1) ^ 0x82f63b78 : c >>> 1;
    first[n] = c >>> 0;
  }
  const tables = [first];
  for (let t = 1; t < 8; t++) {
    const last = tables[t - 1] as Uint32Array;
    tables.push(last.map((c) => ((c >>> 8) ^ (first[c & 255] as number)) >>> 0));
  }
  return tables;
})();

function crc32cHasher(): Hasher {
  const [t0, t1, t2, t3, t4, t5, t6, t7] = crc32cTables as [
    Uint32Array,
    Uint32Array,
    Uint32Array,
    Uint32Array,
    Uint32Array,
    Uint32Array,
    Uint32Array,
    Uint32Array,
  ];
  const at = (table: Uint32Array, index: number): number => table[index] as number;
  let crc = 0xffffffff;
  return {
    update(bytes) {
      let c = crc;
      let i = 0;
      for (const end = bytes.length - 7; i < end; i += 8) {
        c ^= bytes.readUInt32LE(i);
        const d = bytes.readUInt32LE(i + 4);
        c =
          at(t7, c & 255) ^
          at(t6, (c >>> 8) & 255) ^
          at(t5, (c >>> 16) & 255) ^
          at(t4, c >>> 24) ^
          at(t3, d & 255) ^
          at(t2, (d >>> 8) & 255) ^
          at(t1, (d >>> 16) & 255) ^
          at(t0, d >>> 24);
      }
      for (; i < bytes.length; i++) c = (c >>> 8) ^ at(t0, (c ^ (bytes[i] as number)) & 255);
      crc = c;
    },
    digest: () => uint32(crc ^ 0xffffffff),
  };
}

// CRC-64/NVME in two halves of 32 bits, because BigInt arithmetic per byte is some fifty times slower.
const [crc64High, crc64Low] = ((): [Uint32Array, Uint32Array] => {
  const high = new Uint32Array(256);
  const low = new Uint32Array(256);
  for (let n = 0; n < 256; n++) {
    let h = 0;
    let l = n;
    for (let k = 0; k < 8; k++) {
      const carry = l & 1;
      l = (l >>> 1) | (h << 31);
      h >>>= 1;
      if (carry) {
        h ^= 0x9a6c9329;
        l ^= 0xac4bc9b5;
      }
    }
    high[n] = h >>> 0;
    low[n] = l >>> 0;
  }
  return [high, low];
})();

function crc64nvmeHasher(): Hasher {
  let h = 0xffffffff;
  let l = 0xffffffff;
  return {
    update(bytes) {
      for (let i = 0; i < bytes.length; i++) {
        const n = (l ^ (bytes[i] as number)) & 255;
        l = ((l >>> 8) | (h << 24)) ^ (crc64Low[n] as number);
        h = (h >>> 8) ^ (crc64High[n] as number);
      }
    },
    digest: () => Buffer.concat([uint32(~h), uint32(~l)]),
  };
}

export function createHasher(algorithm: ChecksumAlgorithm | 'MD5'): Hasher {
  if (algorithm === 'CRC32') return crc32Hasher();
  if (algorithm === 'CRC32C') return crc32cHasher();
  if (algorithm === 'CRC64NVME') return crc64nvmeHasher();
  const hash = createHash(algorithm.toLowerCase());
  return { update: (bytes) => void hash.update(bytes), digest: () => hash.digest() };
}
