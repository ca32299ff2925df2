// What pages need of React, as one file for browsers: React's packages are for bundlers. "npm run build" makes it.
export { createElement, useCallback, useRef, useState, useSyncExternalStore } from "react";
export { createRoot } from "react-dom/client";
