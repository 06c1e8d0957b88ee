# Loads the module as the bridge does, from text, and performs the requests of a file one after
# another: one line of JSON for each. Rights and folder permissions are Windows' own: replaced.
param([string] $Module, [string] $Requests, [string] $Mocks)
$ErrorActionPreference = 'Stop'
$env:PSModulePath = $Mocks + [IO.Path]::PathSeparator + $env:PSModulePath
Import-Module -Name (Join-Path -Path $Mocks -ChildPath 'NetAdapter')
Import-Module -Name (Join-Path -Path $Mocks -ChildPath 'NetNat')
Import-Module -Name (Join-Path -Path $Mocks -ChildPath 'NetTCPIP')
Import-Module -Name (Join-Path -Path $Mocks -ChildPath 'ScheduledTasks')
$text = [IO.File]::ReadAllText($Module)
$loaded = New-Module -Name 'Vswitch' -ScriptBlock ([scriptblock]::Create($text))
& $loaded {
    function script:Get-VswitchRight {
        return [ordered]@{
            administrator = $true
            hyperVAdministrator = $true
        }
    }
    function script:Initialize-VswitchFolder {
        param([string] $Path, [string[]] $Trusted)
        $null = [IO.Directory]::CreateDirectory($Path)
    }
}
foreach ($line in [IO.File]::ReadAllLines($Requests)) {
    [IO.File]::AppendAllText($env:VSWITCH_MOCK_LOG, "--`n")
    [Console]::Out.WriteLine((Invoke-VswitchOperation -Json $line))
}
