# Reads .env and .env.local for the Vagrantfile. The top of .env says how a line is written; env_file.rs in
# crates/foundation and settings.sh beside this file follow the same rules, and tests/cases/settings.tsv holds all
# three to them.
module Settings
  # A line that breaks the rules. The message has its number and the name of its variable, never its value.
  class Error < StandardError; end

  # NAME= and a value without quotes, or one in single quotes, or one in double quotes without anything that a shell
  # would expand there. Then perhaps a comment.
  SETTING = /\A[ \t]*(?:export[ \t]+)?([A-Z][A-Z0-9_]*)=
             (?: ([A-Za-z0-9_.\/:,@%+=-]*) | '((?:[^']|'\\'')*)' | "([^"$\\`]*)" )
             (?:[ \t]+\#.*)?[ \t]*\z/mx
  NOTHING = /\A[ \t]*(?:#.*)?\z/m
  NAMED = /\A[ \t]*(?:export[ \t]+)?([A-Za-z_][A-Za-z0-9_]*)[ \t]*=/

  # The settings of a folder: .env, and .env.local, which wins, if it is there.
  def self.of(folder)
    local = File.join(folder, ".env.local")
    read(File.join(folder, ".env")).merge(File.exist?(local) ? read(local) : {})
  end

  # The default that a commented-out line of .env shows for a setting; nil if there is none.
  def self.default(folder, name)
    File.read(File.join(folder, ".env"), encoding: "UTF-8")[/^##{Regexp.escape(name)}=([^\s#]+)\s*$/, 1]
  end

  # The settings of one file.
  def self.read(path)
    lines_of = {}
    lines = File.binread(path).delete_prefix("\xEF\xBB\xBF".b).split("\n").map { |line| line.force_encoding("UTF-8") }
    lines.each.with_index(1).with_object({}) do |(line, number), settings|
      line = line.delete_suffix("\r") if line.valid_encoding?
      place = "#{File.basename(path)}, line #{number}:"
      readable = line.valid_encoding? && !line.include?("\0")
      next if readable && line.match?(NOTHING)

      name, plain, single, double = line.match(SETTING)&.captures if readable
      raise Error, "#{place} #{name_in(line)} cannot be read; #{HINT}" unless name
      raise Error, "#{place} #{name} is set already, on line #{lines_of[name]}" if lines_of.key?(name)

      lines_of[name] = number
      settings[name] = plain || double || single.gsub("'\\''", "'")
    end
  end

  HINT = "write NAME=value, or NAME='value' with '\\'' for each ' in it"

  # Everything after the first = may be a password.
  def self.name_in(line)
    line.b[NAMED, 1] || "it"
  end
  private_class_method :name_in
end
