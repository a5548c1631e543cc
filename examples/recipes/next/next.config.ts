import type { NextConfig } from "next";
import { WALCAST_URL } from "./walcast";

const config: NextConfig = {
  // Browsers reach the daemon through this server, WebSockets included.
  rewrites: async () => [
    { source: "/ws/:feed", destination: `${WALCAST_URL}/ws/:feed` },
    { source: "/api/feeds/:path*", destination: `${WALCAST_URL}/api/feeds/:path*` },
  ],
};

export default config;
