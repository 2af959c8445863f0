import { strictEqual } from "node:assert/strict";
import { isAddress, isPublicAddress } from "./address.ts";

Deno.test("isPublicAddress() accepts public unicast and refuses every special range", () => {
  const accepted = [
    "1.1.1.1",
    "93.184.216.34",
    "172.15.0.1",
    "172.32.0.1",
    "100.63.255.255",
    "2606:4700::1111",
    "2a00:1450:4001:80b::200e",
    "::ffff:8.8.8.8",
    "64:ff9b::808:808",
  ];
  const refused = [
    "0.0.0.0",
    "10.1.2.3",
    "100.64.0.1",
    "100.100.100.200",
    "127.0.0.1",
    "127.255.255.254",
    "169.254.169.254",
    "172.16.0.1",
    "172.31.255.255",
    "192.168.1.1",
    "192.0.2.7",
    "198.19.0.1",
    "224.0.0.1",
    "255.255.255.255",
    "168.63.129.16",
    "::",
    "::1",
    "::ffff:127.0.0.1",
    "::ffff:a9fe:a9fe",
    "::127.0.0.1",
    "64:ff9b::a00:1",
    "fe80::1",
    "fe80::1%eth0",
    "fc00::1",
    "fd00:ec2::254",
    "ff02::1",
    "2001::1",
    "2001:db8::1",
    "2002:7f00:1::",
    "3fff::1",
    "4000::1",
  ];
  for (const address of accepted) strictEqual(isPublicAddress(address), true, address);
  for (const address of refused) {
    strictEqual(isAddress(address), true, address);
    strictEqual(isPublicAddress(address), false, address);
  }
});

Deno.test("isAddress() refuses what only looks like an address", () => {
  const wrong = ["", "example.com", "1.2.3", "1.2.3.256", "01.2.3.4", "1:2:3", ":::", "1::2::3"];
  for (const text of [...wrong, "1:2:3:4:5:6:7:8:9", "::12345", "::1.2.3", "g::1"]) {
    strictEqual(isAddress(text), false, text);
    strictEqual(isPublicAddress(text), false, text);
  }
});
