// The codecs that KafkaJS leaves to other packages, registered as its documentation shows.

import { createRequire } from 'node:module';

const require = createRequire(import.meta.url);
const { CompressionTypes, CompressionCodecs } = require('kafkajs');
const snappy = require('snappyjs');
const lz4 = require('lz4js');
const xxhash = require('lz4js/xxh32.js');
const zstd = require('@bokuweb/zstd-wasm');

const XERIAL_MAGIC = Buffer.from([0x82, 0x53, 0x4e, 0x41, 0x50, 0x50, 0x59, 0x00]);

// The Java client frames snappy in blocks with a header of its own; librdkafka sends one bare block.
function unsnap(buffer) {
  if (!buffer.subarray(0, 8).equals(XERIAL_MAGIC)) return Buffer.from(snappy.uncompress(buffer));
  const blocks = [];
  for (let at = 16; at < buffer.length; ) {
    const size = buffer.readInt32BE(at);
    blocks.push(Buffer.from(snappy.uncompress(buffer.subarray(at + 4, at + 4 + size))));
    at += 4 + size;
  }
  return Buffer.concat(blocks);
}

// lz4js marks its frames as ones whose blocks depend on each other, which Kafka's consumers refuse. A batch is one block,
// so the mark is set right, and the descriptor's checksum with it.
function lz4Frame(buffer) {
  const frame = Buffer.from(lz4.compress(buffer));
  frame[4] |= 0x20;
  frame[6] = xxhash.hash(0, frame, 4, 2) >> 8;
  return frame;
}

// Makes them known to KafkaJS.
export async function registerCodecs() {
  await zstd.init();
  CompressionCodecs[CompressionTypes.Snappy] = () => ({
    compress: async (encoder) => Buffer.from(snappy.compress(encoder.buffer)),
    decompress: async (buffer) => unsnap(buffer),
  });
  CompressionCodecs[CompressionTypes.LZ4] = () => ({
    compress: async (encoder) => lz4Frame(encoder.buffer),
    decompress: async (buffer) => Buffer.from(lz4.decompress(buffer)),
  });
  CompressionCodecs[CompressionTypes.ZSTD] = () => ({
    compress: async (encoder) => Buffer.from(zstd.compress(encoder.buffer)),
    decompress: async (buffer) => Buffer.from(zstd.decompress(buffer)),
  });
}

// By Kafka's names.
export const CODECS = {
  none: CompressionTypes.None,
  gzip: CompressionTypes.GZIP,
  snappy: CompressionTypes.Snappy,
  lz4: CompressionTypes.LZ4,
  zstd: CompressionTypes.ZSTD,
};
