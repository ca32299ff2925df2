/** Ends the registration of a listener. */
export type Off = () => void;

/** A primitive, data of a service, a reference that is followed, or one that is not. */
export type Value = unknown | Resource | SoftRef;

/** An error of the gateway or a service, or of this module if its code begins with "client.". */
export class ResError extends Error {
  constructor(error: { code: string; message: string; data?: unknown });
  readonly code: string;
  readonly data?: unknown;
}

/** Names a resource that the client is not subscribed to by this. */
export class SoftRef {
  constructor(rid: string);
  readonly rid: string;
}

declare class Emitter {
  /** Calls fn with the data of each event of that name. */
  on(name: string, fn: (data: any) => void): Off;
}

/** Emits "unsubscribe" with {reason: ResError} when the gateway ends the subscription, "delete", and custom events. */
export class Resource extends Emitter {
  readonly rid: string;
}

/** Stands for a referenced resource that could not be loaded. */
export class Failed extends Resource {
  readonly error: ResError | null;
}

/** Named values. */
export class Model<P extends object = Record<string, any>> extends Resource {
  readonly props: Readonly<P>;
  on(name: "change", fn: (data: { changed: Partial<P> }) => void): Off;
  on(name: "unsubscribe", fn: (data: { reason: ResError }) => void): Off;
  on(name: string, fn: (data: any) => void): Off;
}

/** A list of values. */
export class Collection<T = any> extends Resource {
  readonly items: readonly T[];
  on(name: "add" | "remove", fn: (data: { value: T; idx: number }) => void): Off;
  on(name: "unsubscribe", fn: (data: { reason: ResError }) => void): Off;
  on(name: string, fn: (data: any) => void): Off;
}

export type State = "connecting" | "online" | "offline" | "closed";

export interface Options {
  /** Is awaited on each new connection before subscriptions are made: the place to sign in. */
  onConnect?: (client: Client) => unknown;
  /** Reports whether the client goes to a URL that its gateway has sent it to, and whose host is not in its list. */
  follow?: (url: string) => boolean;
  /** The class to use; that of the package ws in Node before version 22. */
  WebSocket?: unknown;
}

/** Returns a function that makes WebSockets to the gateways of a list, for ResClient in place of a URL. */
export function dialer(urls: string | readonly string[], options?: Pick<Options, "follow" | "WebSocket">): () => any;

/** A connection to a gateway, which is made again when it is lost, with all subscriptions. */
export class Client extends Emitter {
  /** A list has further gateways, for when the first is lost. */
  constructor(url: string | readonly string[], options?: Options);
  /** The gateway that the client is connected to, or will try next. */
  readonly url: string;
  readonly state: State;
  /** When the next attempt is made, in the milliseconds of Date.now, while the state is "offline". */
  readonly retryAt: number;
  /** Connects now, and after each loss of the connection, until close. */
  connect(): void;
  /** Ends the connection and all subscriptions. */
  close(): void;
  /** Finds out whether the connection still works; connects if it is waiting to. */
  check(): void;
  /** Resolves with the resource when it is there. Each subscribe needs its unsubscribe. */
  subscribe<R extends Resource = Model | Collection>(rid: string): Promise<R>;
  unsubscribe(rid: string): void;
  /** Resolves with the result; with a Resource that the client is then subscribed to, or Failed, if it is one. */
  call<T = any>(rid: string, method: string, params?: unknown): Promise<T>;
  /** As call, for methods that sign in or out: these need no access. */
  auth<T = any>(rid: string, method: string, params?: unknown): Promise<T>;
  on(name: "state", fn: (data: { state: State; retryAt: number }) => void): Off;
  on(name: "message", fn: (data: { sent: boolean; text: string }) => void): Off;
  on(name: string, fn: (data: any) => void): Off;
}
