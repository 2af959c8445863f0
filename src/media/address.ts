/**
 * Owns which IP addresses a server may fetch media from: public unicast only. Special ranges are
 * those of the IANA special-purpose registries (RFC 6890). Does no DNS.
 */

/** `[prefix, bits]` of IPv4 ranges that are not public, and cloud metadata outside of them. */
const SPECIAL_V4: readonly (readonly [prefix: readonly number[], bits: number])[] = [
  [[0], 8], // this network
  [[10], 8], // private
  [[100, 64], 10], // carrier-grade NAT, also metadata of some clouds
  [[127], 8], // loopback
  [[169, 254], 16], // link-local, metadata of most clouds
  [[172, 16], 12], // private
  [[192, 0, 0], 24], // protocol assignments
  [[192, 0, 2], 24], // documentation
  [[192, 88, 99], 24], // 6to4 relays
  [[192, 168], 16], // private
  [[198, 18], 15], // benchmarking
  [[198, 51, 100], 24], // documentation
  [[203, 0, 113], 24], // documentation
  [[224], 4], // multicast
  [[240], 4], // reserved, broadcast
  [[168, 63, 129, 16], 32], // Azure's host endpoint
];

/** Ranges inside 2000::/3 that are not ordinary unicast. All else outside of it is refused. */
const SPECIAL_V6: readonly (readonly [prefix: readonly number[], bits: number])[] = [
  [[0x20, 0x01, 0x00], 23], // protocol assignments, Teredo
  [[0x20, 0x01, 0x0d, 0xb8], 32], // documentation
  [[0x20, 0x02], 16], // 6to4 carries any IPv4 address
  [[0x3f, 0xff], 20], // documentation
];
const GLOBAL_V6 = [[0x20], 3] as const;
const MAPPED_V4 = [[0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff], 96] as const;
const NAT64 = [[0, 0x64, 0xff, 0x9b, 0, 0, 0, 0, 0, 0, 0, 0], 96] as const;

/** True for text that is an IPv4 or IPv6 address (without brackets). */
export function isAddress(text: string): boolean {
  return parseAddress(text) !== undefined;
}

/**
 * True when `text` is an address of the public Internet. False for private, loopback, link-local,
 * multicast, documentation, transition and metadata addresses, and for what is not an address.
 */
export function isPublicAddress(text: string): boolean {
  const bytes = parseAddress(text);
  if (bytes === undefined) return false;
  if (bytes.length === 4) return !SPECIAL_V4.some((range) => isWithin(bytes, range));
  if (isWithin(bytes, MAPPED_V4) || isWithin(bytes, NAT64)) {
    return isPublicAddress(bytes.slice(12).join("."));
  }
  return isWithin(bytes, GLOBAL_V6) && !SPECIAL_V6.some((range) => isWithin(bytes, range));
}

function isWithin(
  bytes: readonly number[],
  [prefix, bits]: readonly [prefix: readonly number[], bits: number],
): boolean {
  for (let bit = 0; bit < bits; bit += 8) {
    const mask = bits - bit >= 8 ? 0xff : (0xff << (8 - (bits - bit))) & 0xff;
    if (((bytes[bit >> 3]! ^ (prefix[bit >> 3] ?? 0)) & mask) !== 0) return false;
  }
  return true;
}

/** 4 or 16 bytes, or undefined when `text` is not an address. */
function parseAddress(text: string): number[] | undefined {
  if (!text.includes(":")) return parseV4(text);
  const [address = ""] = text.split("%"); // a zone does not change the range
  const halves = address.split("::");
  if (halves.length > 2) return undefined;
  const [head, tail] = halves.map(parseGroups);
  if (head === undefined) return undefined;
  if (halves.length === 1) return head.length === 16 ? head : undefined;
  if (tail === undefined || head.length + tail.length > 14) return undefined;
  return [...head, ...new Array<number>(16 - head.length - tail.length).fill(0), ...tail];
}

/** Bytes of colon-separated groups, the last of which may be dotted. */
function parseGroups(text: string): number[] | undefined {
  if (text === "") return [];
  const bytes: number[] = [];
  const groups = text.split(":");
  for (const [index, group] of groups.entries()) {
    if (index === groups.length - 1 && group.includes(".")) {
      const dotted = parseV4(group);
      if (dotted === undefined) return undefined;
      bytes.push(...dotted);
    } else {
      if (!/^[0-9a-f]{1,4}$/i.test(group)) return undefined;
      const value = parseInt(group, 16);
      bytes.push(value >> 8, value & 0xff);
    }
  }
  return bytes;
}

function parseV4(text: string): number[] | undefined {
  const parts = text.split(".");
  const valid = parts.length === 4 &&
    parts.every((part) => /^(0|[1-9]\d{0,2})$/.test(part) && Number(part) <= 255);
  return valid ? parts.map(Number) : undefined;
}
