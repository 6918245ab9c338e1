//! Commands of `c3`. The module of a command contains its arguments and its function `run`.

mod append;
mod bench;
pub(crate) mod certs;
pub(crate) mod completions;
mod compress;
mod decompress;
mod doctor;
mod fsck;
mod gc;
mod get;
mod key;
mod label;
mod latents;
mod ls;
pub(crate) mod man;
mod mcp;
mod name;
mod nodes;
mod put;
mod put_latents;
mod recode;
mod reindex;
mod rm;
mod roundtrip;
mod search;
pub(crate) mod serve;
mod shred;
mod stat;
mod store;
mod tenant;
mod top;
mod uploads;

use clap::Subcommand;

use crate::args::{RemoteArgs, TargetArgs, WriteArgs};
use crate::error::CliError;

#[derive(Debug, Subcommand)]
#[expect(clippy::large_enum_variant, reason = "a process has one value")]
pub(crate) enum Command {
    /// Run a gateway and both nodes in one process
    ///
    /// With --compressor or --decoder, the gateway uses the given nodes, and no node of that stage is started.
    #[command(after_help = SERVE_EXAMPLES)]
    Serve(Box<serve::ServeArgs>),
    /// Make certificates for TLS between gateways, nodes and clients
    #[command(subcommand, after_help = CERTS_EXAMPLES)]
    Certs(certs::CertsCommand),
    /// Print a shell script that completes commands, ids and names
    ///
    /// Ids and names come from the gateway that the completed line, the environment or the profile names.
    #[command(after_help = COMPLETIONS_EXAMPLES)]
    Completions(completions::CompletionsArgs),
    /// Write man pages to a folder
    #[command(after_help = "Example:\n  c3 man ~/.local/share/man/man1 && man c3-put")]
    Man(man::ManArgs),
    #[command(flatten)]
    Client(ClientCommand),
}

/// A command that makes calls to a gateway.
#[derive(Debug, Subcommand)]
pub(crate) enum ClientCommand {
    /// Store texts
    ///
    /// Many texts are stored in parallel. If one fails, the others are still stored, and the exit code is 1.
    #[command(after_help = PUT_EXAMPLES)]
    Put(Box<put::PutArgs>),
    /// Append text to a document, as a new document
    ///
    /// Only the new text and the end of the stored text are compressed.
    #[command(after_help = "Example:\n  c3 append ID more.txt --replace")]
    Append(Box<append::AppendArgs>),
    /// List interrupted uploads
    ///
    /// Repeat the interrupted command with --upload NAME to resume an upload.
    #[command(after_help = "Examples:\n  c3 uploads\n  c3 put book.txt --upload NAME")]
    Uploads(RemoteArgs),
    /// Print a document or a byte range, or write documents to files
    ///
    /// With --output DIR, each document is written to the path in its label `path`, which is the path of the file that
    /// it was put from. A document without this label is written to a file named by its id. No existing file is
    /// overwritten: a file that already contains the document is skipped, and a file with any other content is reported
    /// as a failure.
    #[command(after_help = GET_EXAMPLES)]
    Get(get::GetArgs),
    /// Describe a document, or the whole store
    #[command(after_help = "Examples:\n  c3 stat @draft\n  c3 stat --json")]
    Stat(stat::StatArgs),
    /// List documents
    #[command(after_help = "Example:\n  c3 ls --label lang=en --limit 20")]
    Ls(ls::LsArgs),
    /// Search documents by words and phrases
    ///
    /// Prints the windows that match best. A window is a part of a document of about two kilobytes. Words match in all
    /// forms with the same stem; meaning beyond words is not searched.
    #[command(after_help = SEARCH_EXAMPLES)]
    Search(search::SearchArgs),
    /// Delete a document
    #[command(after_help = "Example:\n  c3 rm @draft")]
    Rm(rm::RmArgs),
    /// Set, show, remove and list names
    #[command(subcommand, after_help = "Example:\n  c3 name set draft ID && c3 get @draft")]
    Name(name::NameCommand),
    /// Set, remove and show labels
    #[command(after_help = "Example:\n  c3 label ID lang=en --remove draft")]
    Label(label::LabelArgs),
    /// Compress documents again with another ratio, codec or model
    ///
    /// Options that are not given keep the document's values. The old version stays readable until the new one is
    /// verified and stored.
    #[command(after_help = "Example:\n  c3 recode --all --codec q8_0")]
    Recode(recode::RecodeArgs),
    /// Let search find documents that were stored without it
    ///
    /// Decodes each document and adds sketches of its words. Latents and corrections stay as they are.
    #[command(after_help = "Example:\n  c3 reindex --all")]
    Reindex(reindex::ReindexArgs),
    /// Delete unreferenced objects (garbage collection)
    #[command(after_help = "Examples:\n  c3 gc\n  c3 gc --grace 1h")]
    Gc(gc::GcArgs),
    /// Check every object in the store, and repair damage
    #[command(after_help = FSCK_HELP)]
    Fsck(fsck::FsckArgs),
    /// List the latents of a document, or export them to a file
    #[command(after_help = "Example:\n  c3 latents ID --output latents.safetensors")]
    Latents(latents::LatentsArgs),
    /// Store a document from exported latents
    ///
    /// The gateway decodes the latents, and stores them only if the model, the shapes and every hash match.
    #[command(after_help = "Example:\n  c3 put-latents latents.safetensors")]
    PutLatents(put_latents::PutLatentsArgs),
    /// List nodes and their states
    #[command(after_help = NODES_HELP)]
    Nodes(nodes::NodesArgs),
    /// Create, list and revoke API keys
    ///
    /// The keys are in the access file of the gateways, which read it again within a second. No gateway is called.
    #[command(subcommand, after_help = KEY_EXAMPLES)]
    Key(key::KeyCommand),
    /// Create and list tenants, and set their quotas
    ///
    /// The tenants are in the access file of the gateways, which read it again within a second. No gateway is called.
    #[command(subcommand, after_help = TENANT_EXAMPLES)]
    Tenant(tenant::TenantCommand),
    /// Encrypt a store, and show and rotate its keys
    #[command(subcommand, after_help = STORE_EXAMPLES)]
    Store(store::StoreCommand),
    /// Store texts, read them back and compare every byte
    ///
    /// Without --gateway, servers run inside this process and nothing is kept. With --gateway, documents stay stored.
    #[command(after_help = "Example:\n  c3 roundtrip book.txt --ratio 40")]
    Roundtrip(Box<roundtrip::RoundtripArgs>),
    /// Measure throughput and latency of writes and reads
    ///
    /// Without --gateway, servers run inside this process and nothing is kept. With --gateway, documents stay stored.
    #[command(after_help = BENCH_EXAMPLES)]
    Bench(Box<bench::BenchArgs>),
    /// Compress a text to a file without storing it
    #[command(after_help = "Example:\n  c3 compress book.txt --output book.safetensors")]
    Compress(compress::CompressArgs),
    /// Decompress a file of `c3 compress` or `c3 latents`
    #[command(after_help = "Example:\n  c3 decompress book.safetensors --output book.txt")]
    Decompress(decompress::DecompressArgs),
    /// Serve an agent over the Model Context Protocol
    ///
    /// Speaks MCP on standard input and output. The agent can store texts, recall them exactly and find them. Without
    /// --gateway, servers run inside this process on the store of `c3 serve`.
    #[command(after_help = MCP_EXAMPLES)]
    Mcp(Box<mcp::McpArgs>),
    /// Check gateway, nodes, model, clock, disk and versions
    ///
    /// Prints what to do about each problem. With --model, loads both stages of that model, which may take a while.
    #[command(after_help = DOCTOR_HELP)]
    Doctor(Box<TargetArgs>),
    /// Watch the load of both stages
    ///
    /// Shows rates, busy shares, backlogs, queues, cache hits and nodes, and refreshes them each second until you press
    /// q. Cache hits and the rates of calls need an API key with the scope admin.
    #[command(after_help = "Examples:\n  c3 top\n  c3 top --once\n  c3 top --json")]
    Top(top::TopArgs),
}

const SERVE_EXAMPLES: &str = "\
Examples:
  c3 serve
  c3 serve --listen 0.0.0.0:7300 --data s3://BUCKET/PREFIX
  c3 serve --compressor http://HOST:7301 --decoder http://HOST:7302";

const CERTS_EXAMPLES: &str = "\
Examples:
  c3 certs init certs --name gateway.example
  c3 certs issue --dir certs --role node --name decoder-2 --ip 10.0.0.7";

const PUT_EXAMPLES: &str = "\
Examples:
  c3 put book.txt
  c3 put book.txt --name draft --label lang=en
  c3 put book.txt --ratio auto --fidelity-min 0.999
  c3 put --recursive notes 'letters/*.txt'
  c3 put --recursive notes --name team    (names @team/notes/FILE)
  c3 put --field body dump.jsonl
  c3 put edited.txt --base ID";

const SEARCH_EXAMPLES: &str = "\
Examples:
  c3 search lighthouse keeper
  c3 search '\"old lamp\" harbour' --label lang=en
  c3 search --exact 'fn main() {' --in @code --snippet 400";
const GET_EXAMPLES: &str = "\
Examples:
  c3 get ID
  c3 get @draft --range 1000..1500
  c3 get --all --output backup/";

const STORE_EXAMPLES: &str = "\
Examples:
  c3 store keys --data /data --master-key file:/run/secrets/c3-master-key
  c3 store encrypt --data /data --master-key file:/run/secrets/c3-master-key
  c3 store rotate --data /data --master-key file:NEW --master-key file:OLD";

const FSCK_HELP: &str = "\
Examples:
  c3 fsck
  c3 fsck --repair --original book.txt

Exit codes, as in fsck(8): 0 no faults, 1 all faults repaired, 4 faults left, 8 the check could
not finish, 2 the arguments are wrong.";

const COMPLETIONS_EXAMPLES: &str = "\
Examples:
  echo 'source <(c3 completions bash)' >> ~/.bashrc
  echo 'source <(c3 completions zsh)' >> ~/.zshrc        (after compinit)
  echo 'c3 completions fish | source' >> ~/.config/fish/config.fish";

const DOCTOR_HELP: &str = "\
Examples:
  c3 doctor
  c3 doctor --gateway https://gateway.example --json

Exit codes: 0 no check failed, 1 a check failed. A warning is no failure.";

const MCP_EXAMPLES: &str = "\
Examples:
  c3 mcp --files .
  c3 mcp --gateway https://gateway.example
  claude mcp add c3 -- c3 mcp --files .";

const NODES_HELP: &str = "\
Examples:
  c3 nodes
  c3 nodes --check

Exit codes with --check: 0 if each stage (compressor, decoder) has a ready node, 1 if a stage has no
ready node or if no gateway answers.";

const KEY_EXAMPLES: &str = "\
Examples:
  c3 key create --access access.json --tenant acme --scope read --scope write > key
  c3 key create --access access.json --scope admin --expires 30d
  c3 key revoke --access access.json 0123456789";

const TENANT_EXAMPLES: &str = "\
Examples:
  c3 tenant create --access access.json acme --requests-per-minute 600 --stored-size-max 10GiB
  c3 tenant set --access access.json acme --requests-per-minute none --cache-weight 3";

const BENCH_EXAMPLES: &str = "\
Examples:
  c3 bench book.txt --op get --clients 16
  c3 bench book.txt --op put --rate 20 --arrivals poisson";

impl Command {
    /// Returns the compression options, if the command has any.
    pub(crate) fn write_args(&self) -> Option<&WriteArgs> {
        let Self::Client(command) = self else { return None };
        match command {
            ClientCommand::Put(args) => Some(&args.write),
            ClientCommand::Append(args) => Some(&args.write),
            ClientCommand::Recode(args) => Some(&args.write),
            ClientCommand::Roundtrip(args) => Some(&args.write),
            ClientCommand::Bench(args) => Some(&args.write),
            ClientCommand::Compress(args) => Some(&args.write),
            _ => None,
        }
    }
}

impl ClientCommand {
    /// Returns the name of the command's trace span.
    pub(crate) fn span_name(&self) -> &'static str {
        match self {
            Self::Put(_) => "c3 put",
            Self::Append(_) => "c3 append",
            Self::Uploads(_) => "c3 uploads",
            Self::Get(_) => "c3 get",
            Self::Stat(_) => "c3 stat",
            Self::Ls(_) => "c3 ls",
            Self::Search(_) => "c3 search",
            Self::Reindex(_) => "c3 reindex",
            Self::Rm(_) => "c3 rm",
            Self::Name(_) => "c3 name",
            Self::Label(_) => "c3 label",
            Self::Recode(_) => "c3 recode",
            Self::Gc(_) => "c3 gc",
            Self::Fsck(_) => "c3 fsck",
            Self::Latents(_) => "c3 latents",
            Self::PutLatents(_) => "c3 put-latents",
            Self::Nodes(_) => "c3 nodes",
            Self::Key(_) => "c3 key",
            Self::Tenant(_) => "c3 tenant",
            Self::Store(_) => "c3 store",
            Self::Roundtrip(_) => "c3 roundtrip",
            Self::Bench(_) => "c3 bench",
            Self::Compress(_) => "c3 compress",
            Self::Decompress(_) => "c3 decompress",
            Self::Mcp(_) => "c3 mcp",
            Self::Doctor(_) => "c3 doctor",
            Self::Top(_) => "c3 top",
        }
    }

    pub(crate) async fn run(self) -> Result<(), CliError> {
        match self {
            Self::Put(args) => put::run(*args).await,
            Self::Append(args) => append::run(*args).await,
            Self::Uploads(args) => uploads::run(args).await,
            Self::Get(args) => get::run(args).await,
            Self::Stat(args) => stat::run(args).await,
            Self::Ls(args) => ls::run(args).await,
            Self::Search(args) => search::run(args).await,
            Self::Reindex(args) => reindex::run(args).await,
            Self::Rm(args) => rm::run(args).await,
            Self::Name(command) => name::run(command).await,
            Self::Label(args) => label::run(args).await,
            Self::Recode(args) => recode::run(args).await,
            Self::Gc(args) => gc::run(args).await,
            Self::Fsck(args) => fsck::run(args).await,
            Self::Latents(args) => latents::run(args).await,
            Self::PutLatents(args) => put_latents::run(args).await,
            Self::Nodes(args) => nodes::run(args).await,
            Self::Key(command) => key::run(command),
            Self::Tenant(command) => tenant::run(command).await,
            Self::Store(command) => store::run(command).await,
            Self::Roundtrip(args) => roundtrip::run(*args).await,
            Self::Bench(args) => bench::run(*args).await,
            Self::Compress(args) => compress::run(args).await,
            Self::Decompress(args) => decompress::run(args).await,
            Self::Mcp(args) => mcp::run(*args).await,
            Self::Doctor(args) => doctor::run(*args).await,
            Self::Top(args) => top::run(args).await,
        }
    }
}
