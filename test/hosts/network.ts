/** Hosts without machines: network namespaces, each with a cable to one switch. Linux, and root, alone can make them. */
import { execFileSync, spawn, type ChildProcess, type SpawnOptions } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { watch } from '../support/leaks.js';

const SUBNET = '10.213.77';
const ip = (...args: string[]): void => {
  execFileSync('ip', args, { stdio: ['ignore', 'ignore', 'inherit'] });
};

export class Network {
  private readonly prefix = `lh-${randomBytes(3).toString('hex')}`;
  private readonly switch = `${this.prefix}-switch`;
  private readonly names: string[] = [];

  /** @throws with the remedy where this process may not make namespaces. */
  constructor() {
    if (process.getuid?.() !== 0)
      throw new Error('hosts are network namespaces, which only root can make: sudo make test-hosts');
    ip('netns', 'add', this.switch);
    ip('-n', this.switch, 'link', 'add', 'bridge', 'type', 'bridge');
    ip('-n', this.switch, 'link', 'set', 'bridge', 'up');
    // The tests' own way to the hosts.
    this.connect(`${this.prefix}-t`, undefined, 254);
  }

  /** Adds a host and returns it. */
  host(name: string): Host {
    const namespace = `${this.prefix}-${name}`;
    ip('netns', 'add', namespace);
    this.names.push(namespace);
    const number = this.names.length;
    const cable = `${this.prefix}-${number}`;
    this.connect(cable, namespace, number);
    ip('-n', namespace, 'link', 'set', 'lo', 'up');
    return {
      name,
      address: `${SUBNET}.${number}`,
      spawn: (command, args, options) =>
        watch(spawn('ip', ['netns', 'exec', namespace, command, ...args], options)),
      unplug: () => {
        ip('-n', this.switch, 'link', 'set', cable, 'down');
      },
      plug: () => {
        ip('-n', this.switch, 'link', 'set', cable, 'up');
      },
    };
  }

  /** A cable: one end named so in the switch, the other in a namespace, or here. */
  private connect(cable: string, namespace: string | undefined, number: number): void {
    const end = namespace === undefined ? ['name', `${cable}0`] : ['name', 'eth0', 'netns', namespace];
    ip('link', 'add', cable, 'netns', this.switch, 'type', 'veth', 'peer', ...end);
    ip('-n', this.switch, 'link', 'set', cable, 'master', 'bridge', 'up');
    const [at, device] = namespace === undefined ? [[], `${cable}0`] : [['-n', namespace], 'eth0'];
    ip(...at, 'address', 'add', `${SUBNET}.${number}/24`, 'dev', device);
    ip(...at, 'link', 'set', device, 'up');
  }

  /** After all processes of the hosts have ended. A cable goes with either of its ends. */
  close(): void {
    for (const name of [...this.names, this.switch]) ip('netns', 'delete', name);
  }
}

export interface Host {
  name: string;
  address: string;
  spawn(command: string, args: string[], options: SpawnOptions): ChildProcess;
  /** Pulls the host's cable: nothing gets through, and nobody is told. */
  unplug(): void;
  plug(): void;
}
