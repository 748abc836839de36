# Builds from the source archive of a release: packaging/publish.sh puts in its address and sum, in
# the copy that goes into a tap.
class CodexApiProxy < Formula
  desc "OpenAI-compatible API in front of the Codex CLI"
  homepage "@HOMEPAGE@"
  url "@URL@"
  sha256 "@SHA256@"
  license "MIT"

  depends_on "rust" => :build

  def install
    system "cargo", "build", "--release", "--locked"
    system "packaging/crates.py > crates.txt" if which("python3")
    ENV["PREFIX"] = prefix
    ENV["SYSCONFDIR"] = etc
    system "packaging/install.sh"
  end

  # `brew services start codex-api-proxy`: launchd on macOS, systemd on Linux.
  service do
    run [opt_bin/"codex-api-proxy", "serve"]
    # Again after a crash only: an exit with 0 (idle, stopped) lasts until the next connection.
    keep_alive successful_exit: false
    # launchd holds the address, so that a restart refuses nobody. The name is the one the program asks for.
    sockets Listeners: "tcp://127.0.0.1:8765"
    # Where Codex, a Node.js program when it comes from npm, and its tools are found.
    environment_variables PATH: std_service_path_env
    # Before the log runs; the rest is in the unified log, or the journal.
    log_path var/"log/codex-api-proxy.log"
    error_log_path var/"log/codex-api-proxy.log"
  end

  def caveats
    <<~EOS
      It answers with the Codex CLI that is installed and logged in:
        npm install -g @openai/codex && codex login
      On macOS the users of a machine cannot be told apart: set a key.
        codex-api-proxy config set api_key -
    EOS
  end

  test do
    assert_match version.to_s, shell_output("#{bin}/codex-api-proxy --version")
    assert_match "The settings are valid", shell_output("#{bin}/codex-api-proxy config check")
  end
end
