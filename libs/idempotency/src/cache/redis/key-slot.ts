/** A Redis Cluster divides all keys into so many slots. */
const SLOTS = 16_384;

/** CRC-16/XMODEM, as the specification of Redis Cluster asks for. */
const CRC = Uint16Array.from({ length: 256 }, (_, byte) => {
  let crc = byte << 8;
  for (let bit = 0; bit < 8; bit += 1) crc = crc & 0x80_00 ? (crc << 1) ^ 0x10_21 : crc << 1;
  return crc;
});

/** The slot of a cache's key, which is ASCII and has no `{…}` in it that would take the place of the whole. */
export function slotOf(key: string): number {
  let crc = 0;
  for (let at = 0; at < key.length; at += 1) {
    crc = ((crc << 8) ^ (CRC[((crc >> 8) ^ key.charCodeAt(at)) & 0xff] ?? 0)) & 0xff_ff;
  }
  return crc % SLOTS;
}
