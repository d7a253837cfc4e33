/** Which addresses are somebody else's: not this machine's, its networks', or a cloud's own services. */
import { lookup as systemLookup, type LookupAddress } from 'node:dns';
import { isIP, type LookupFunction } from 'node:net';
import ipaddr from 'ipaddr.js';
import { SourceError } from './source-error.js';

/** Public by their number, but a cloud's own service to its machines (Azure's wire server). */
const cloudServices = ['168.63.129.16'];

/** False for loopback, private, link-local, multicast, reserved and tunnelled addresses of both families. */
export function isPublicAddress(address: string): boolean {
  if (!ipaddr.isValid(address) || cloudServices.includes(address)) return false;
  const parsed = ipaddr.process(address);
  // ::/96 once held IPv4 addresses, and some systems still route it so.
  if (parsed.kind() === 'ipv6' && parsed.match(ipaddr.parse('::'), 96)) return false;
  return parsed.range() === 'unicast' && !cloudServices.includes(parsed.toString());
}

export type Resolver = (host: string) => Promise<LookupAddress[]>;

export const resolveHost: Resolver = (host) =>
  new Promise((resolve, reject) => {
    systemLookup(host, { all: true }, (error, addresses) => (error ? reject(error) : resolve(addresses)));
  });

/**
 * A socket's own look-up. The addresses that are checked are those that are connected to, so that a name cannot
 * answer differently the second time. One address that is not public refuses the whole name.
 */
export function publicLookup(resolve: Resolver): LookupFunction {
  return (host, options, callback) => {
    resolve(host).then(
      (addresses) => {
        const bad = addresses.find(({ address }) => !isPublicAddress(address));
        const [first] = addresses;
        if (bad !== undefined) callback(privateAddress(host), '');
        else if (first === undefined)
          callback(new SourceError('DOCUMENT_UNREACHABLE', `${host} has no address`), '');
        else if (options.all === true) callback(null, addresses);
        else callback(null, first.address, first.family);
      },
      (error: unknown) => callback(error as NodeJS.ErrnoException, ''),
    );
  };
}

/** @throws SourceError for a host that is written as an address that is not public; no look-up happens for those. */
export function checkLiteralHost(hostname: string): void {
  const host = hostname.replace(/^\[|\]$/g, '');
  if (isIP(host) !== 0 && !isPublicAddress(host)) throw privateAddress(hostname);
}

/** Without the address that a name has: it may be one of an inner network, and whoever asks an outsider. */
function privateAddress(host: string): SourceError {
  return new SourceError(
    'DOCUMENT_ADDRESS_REFUSED',
    `is on ${host}, which has no public address; a service reads only from public ones and from its documentHosts`,
  );
}
