/**
 * Reads the pickle of a torch.save file as data. Nothing is looked up and nothing is called: the few
 * names that a dictionary of tensors needs are understood here, every other name and every other
 * opcode is refused.
 */
import { PickleError } from './errors.js';

export type ElementType = 'F32' | 'F16' | 'BF16';

/** Elements in an entry of the archive, `data/<key>`. */
export interface Storage {
  kind: 'storage';
  type: ElementType;
  key: string;
  elements: number;
}

export interface PickledTensor {
  kind: 'tensor';
  storage: Storage;
  /** In elements. */
  offset: number;
  shape: number[];
  stride: number[];
}

type Tuple = { kind: 'tuple'; items: Value[] };
type Global = { kind: 'global'; name: string };
type Value =
  null | boolean | number | string | Value[] | Map<string, Value> | Tuple | Global | Storage | PickledTensor;

const storages: Record<string, ElementType> = {
  'torch FloatStorage': 'F32',
  'torch HalfStorage': 'F16',
  'torch BFloat16Storage': 'BF16',
};
const callables = [
  'collections OrderedDict',
  'torch._utils _rebuild_tensor_v2',
  'torch._utils _rebuild_parameter',
];
const allowed = new Set([...Object.keys(storages), ...callables]);

const MAX_BYTES = 16 << 20;
const MAX_VALUES = 1_000_000;

const isTuple = (value: Value | undefined): value is Tuple =>
  typeof value === 'object' && value !== null && 'kind' in value && value.kind === 'tuple';
const kindOf = (value: Value | undefined): string => {
  if (value === null || typeof value !== 'object') return typeof value;
  if (Array.isArray(value)) return 'list';
  return value instanceof Map ? 'dictionary' : value.kind;
};

function sizes(value: Value | undefined, what: string): number[] {
  if (!isTuple(value)) throw new PickleError(`${what} of a tensor is a ${kindOf(value)}`);
  return value.items.map((item) => {
    if (typeof item !== 'number' || item < 0)
      throw new PickleError(`${what} of a tensor holds a ${kindOf(item)}`);
    return item;
  });
}

/** What calling an allowed name with these arguments would make. */
function made({ name }: Global, args: Value[]): Value {
  switch (name) {
    case 'collections OrderedDict': {
      if (args.length > 0) throw new PickleError('an OrderedDict is made from arguments');
      return new Map();
    }
    case 'torch._utils _rebuild_parameter': {
      const [tensor] = args;
      if (kindOf(tensor) !== 'tensor') throw new PickleError('a parameter holds no tensor');
      return tensor as PickledTensor;
    }
    case 'torch._utils _rebuild_tensor_v2': {
      const [storage, offset, shape, stride] = args;
      if (kindOf(storage) !== 'storage' || typeof offset !== 'number' || offset < 0) {
        throw new PickleError('a tensor has no storage');
      }
      return {
        kind: 'tensor',
        storage: storage as Storage,
        offset,
        shape: sizes(shape, 'the shape'),
        stride: sizes(stride, 'the stride'),
      };
    }
    default:
      throw new PickleError(`${name} is called`);
  }
}

/** torch's persistent id: ('storage', type, key, location, elements). */
function storageOf(id: Value): Storage {
  const [tag, type, key, location, elements] = isTuple(id) ? id.items : [];
  const name =
    typeof type === 'object' && type !== null && 'kind' in type && type.kind === 'global' ? type.name : '';
  const element = storages[name];
  if (
    tag !== 'storage' ||
    element === undefined ||
    typeof key !== 'string' ||
    !/^\d{1,9}$/.test(key) ||
    typeof location !== 'string'
  ) {
    throw new PickleError('a storage is not described as torch.save does');
  }
  if (typeof elements !== 'number' || elements < 0)
    throw new PickleError(`storage ${key} has no number of elements`);
  return { kind: 'storage', type: element, key, elements };
}

/**
 * The tensors of a pickled (ordered) dictionary, by name.
 * @throws PickleError for everything else.
 */
export function readTensors(bytes: Buffer): Map<string, PickledTensor> {
  if (bytes.length > MAX_BYTES)
    throw new PickleError(`the pickle has ${bytes.length} bytes, more than ${MAX_BYTES}`);
  const result = new Reader(bytes).run();
  if (!(result instanceof Map)) throw new PickleError(`the file holds a ${kindOf(result)}`);
  const tensors = new Map<string, PickledTensor>();
  for (const [name, value] of result) {
    if (kindOf(value) !== 'tensor')
      throw new PickleError(`entry ${JSON.stringify(name)} is a ${kindOf(value)}`);
    tensors.set(name, value as PickledTensor);
  }
  return tensors;
}

class Reader {
  private at = 0;
  private values = 0;
  private stack: Value[] = [];
  private readonly marks: Value[][] = [];
  private readonly memo = new Map<number, Value>();

  constructor(private readonly bytes: Buffer) {}

  run(): Value {
    for (;;) {
      const opcode = this.take(1).readUInt8();
      if (opcode === 0x2e) return this.pop(); // STOP
      this.step(opcode);
    }
  }

  private step(opcode: number): void {
    switch (opcode) {
      case 0x80: // PROTO
        if (this.take(1).readUInt8() > 5) throw new PickleError('the pickle protocol is newer than 5');
        return;
      case 0x95: // FRAME
        this.take(8);
        return;
      case 0x28: // MARK
        this.marks.push(this.stack);
        this.stack = [];
        return;
      case 0x4e: // NONE
        return this.push(null);
      case 0x88: // NEWTRUE
        return this.push(true);
      case 0x89: // NEWFALSE
        return this.push(false);
      case 0x4b: // BININT1
        return this.push(this.take(1).readUInt8());
      case 0x4d: // BININT2
        return this.push(this.take(2).readUInt16LE());
      case 0x4a: // BININT
        return this.push(this.take(4).readInt32LE());
      case 0x8a: // LONG1
        return this.push(this.long(this.take(this.take(1).readUInt8())));
      case 0x8c: // SHORT_BINUNICODE
        return this.push(this.take(this.take(1).readUInt8()).toString('utf8'));
      case 0x58: // BINUNICODE
        return this.push(this.take(this.take(4).readUInt32LE()).toString('utf8'));
      case 0x7d: // EMPTY_DICT
        return this.push(new Map());
      case 0x5d: // EMPTY_LIST
        return this.push([]);
      case 0x29: // EMPTY_TUPLE
        return this.push({ kind: 'tuple', items: [] });
      case 0x85: // TUPLE1, TUPLE2, TUPLE3
      case 0x86:
      case 0x87:
        return this.tuple(opcode - 0x84);
      case 0x74: // TUPLE
        return this.push({ kind: 'tuple', items: this.popMark() });
      case 0x71: // BINPUT
        return this.remember(this.take(1).readUInt8());
      case 0x72: // LONG_BINPUT
        return this.remember(this.take(4).readUInt32LE());
      case 0x94: // MEMOIZE
        return this.remember(this.memo.size);
      case 0x68: // BINGET
        return this.recall(this.take(1).readUInt8());
      case 0x6a: // LONG_BINGET
        return this.recall(this.take(4).readUInt32LE());
      case 0x63: // GLOBAL
        return this.global(this.line(), this.line());
      case 0x93: {
        // STACK_GLOBAL
        const name = this.pop();
        return this.global(this.pop(), name);
      }
      case 0x51: // BINPERSID
        return this.push(storageOf(this.pop()));
      case 0x52: {
        // REDUCE
        const args = this.pop();
        const callable = this.pop();
        if (kindOf(callable) !== 'global' || !isTuple(args))
          throw new PickleError(`a ${kindOf(callable)} is called`);
        return this.push(made(callable as Global, args.items));
      }
      case 0x62: {
        // BUILD: the attributes of an OrderedDict (state_dict's _metadata) do not matter
        const state = this.pop();
        const target = this.stack.at(-1);
        if (!(target instanceof Map) || !(state instanceof Map)) {
          throw new PickleError(`the state of a ${kindOf(target)} is set`);
        }
        return;
      }
      case 0x73: {
        // SETITEM
        const value = this.pop();
        return this.set([this.pop(), value]);
      }
      case 0x75: // SETITEMS
        return this.set(this.popMark());
      case 0x61: // APPEND
        return this.append([this.pop()]);
      case 0x65: // APPENDS
        return this.append(this.popMark());
      default:
        throw new PickleError(
          `opcode 0x${opcode.toString(16).padStart(2, '0')} at byte ${this.at - 1} is not allowed`,
        );
    }
  }

  private take(count: number): Buffer {
    if (this.at + count > this.bytes.length) throw new PickleError('the pickle ends too early');
    this.at += count;
    return this.bytes.subarray(this.at - count, this.at);
  }

  private line(): string {
    const end = this.bytes.indexOf(0x0a, this.at);
    if (end < 0 || end - this.at > 256) throw new PickleError('a name has no end');
    return this.take(end + 1 - this.at)
      .subarray(0, -1)
      .toString('utf8');
  }

  private long(bytes: Buffer): number {
    let value = 0n;
    for (let i = bytes.length - 1; i >= 0; i--) value = (value << 8n) | BigInt(bytes[i] ?? 0);
    if (bytes.length > 0 && ((bytes.at(-1) ?? 0) & 0x80) !== 0) value -= 1n << BigInt(8 * bytes.length);
    if (value > BigInt(Number.MAX_SAFE_INTEGER) || value < -BigInt(Number.MAX_SAFE_INTEGER)) {
      throw new PickleError(`a number of ${bytes.length} bytes is too large`);
    }
    return Number(value);
  }

  private push(value: Value): void {
    if (++this.values > MAX_VALUES) throw new PickleError(`the pickle makes more than ${MAX_VALUES} values`);
    this.stack.push(value);
  }

  private pop(): Value {
    const value = this.stack.pop();
    if (value === undefined) throw new PickleError('the pickle takes a value that is not there');
    return value;
  }

  private popMark(): Value[] {
    const items = this.stack;
    const below = this.marks.pop();
    if (below === undefined) throw new PickleError('the pickle closes what it has not opened');
    this.stack = below;
    return items;
  }

  private tuple(count: number): void {
    const items = Array.from({ length: count }, () => this.pop()).reverse();
    this.push({ kind: 'tuple', items });
  }

  private remember(index: number): void {
    const value = this.stack.at(-1);
    if (value === undefined) throw new PickleError('the pickle remembers a value that is not there');
    if (this.memo.size >= MAX_VALUES)
      throw new PickleError(`the pickle remembers more than ${MAX_VALUES} values`);
    this.memo.set(index, value);
  }

  private recall(index: number): void {
    const value = this.memo.get(index);
    if (value === undefined)
      throw new PickleError(`the pickle recalls value ${index}, which it has not made`);
    this.push(value);
  }

  private global(module: Value, attribute: Value): void {
    if (typeof module !== 'string' || typeof attribute !== 'string')
      throw new PickleError('a name is no text');
    const name = `${module} ${attribute}`;
    if (!allowed.has(name))
      throw new PickleError(`the name ${JSON.stringify(`${module}.${attribute}`)} is not allowed`);
    this.push({ kind: 'global', name });
  }

  private set(items: Value[]): void {
    const target = this.stack.at(-1);
    if (!(target instanceof Map) || items.length % 2 !== 0)
      throw new PickleError(`an item of a ${kindOf(target)} is set`);
    for (let i = 0; i < items.length; i += 2) {
      const key = items[i];
      if (typeof key !== 'string') throw new PickleError(`a key is a ${kindOf(key)}`);
      if (target.has(key)) throw new PickleError(`the key ${JSON.stringify(key)} is set twice`);
      target.set(key, items[i + 1] ?? null);
    }
  }

  private append(items: Value[]): void {
    const target = this.stack.at(-1);
    if (!Array.isArray(target)) throw new PickleError(`something is appended to a ${kindOf(target)}`);
    target.push(...items);
  }
}
